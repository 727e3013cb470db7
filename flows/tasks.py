"""What every flow uses: the store of a run, and tasks submitted in waves."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from prefect import Task
from prefect.runtime import flow_run
from prefect.utilities.annotations import quote

from storage.store import ArtifactStore

T = TypeVar("T")
WAVE = 64  # task runs alive at once: a server is unsettled by thousands


def open_store(root: str) -> ArtifactStore:
    """The artifact store at ``root``; what is published through it names the running flow."""
    return ArtifactStore(root, run_id=str(flow_run.id or "manual"))


def in_waves(
    task: Task[..., T], items: Iterable[Any], *shared: Any, on_done: Callable[[int], None] | None = None
) -> Iterator[T]:
    """Run ``task(item, *shared)`` for every item, a bounded number at a time, results in the order of the items.

    ``shared`` is handed over as it is: Prefect does not search it for futures, which would walk every sample.
    """
    rest, done = iter(items), 0
    while wave := list(islice(rest, WAVE)):
        futures = [task.submit(item, *(quote(value) for value in shared)) for item in wave]
        for future in futures:
            result = future.result()
            done += 1
            if on_done is not None:
                on_done(done)
            yield result
