"""What every flow uses: the store of a run, what it made and found, and tasks submitted in waves."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from prefect import Task
from prefect.runtime import flow_run
from prefect.utilities.annotations import quote

from flows.run import scratch_folder
from storage.store import ArtifactStore

T = TypeVar("T")
WAVE = 64  # task runs alive at once: a server is unsettled by thousands


def open_store(root: str) -> ArtifactStore:
    """The artifact store at ``root``; what is published through it names the run as a whole, not the subflow."""
    return ArtifactStore(root, run_id=str(flow_run.root_flow_run_id or "manual"))


def log_folder(root: str) -> Path:
    """Where the running flow keeps the logs of the processes it starts."""
    return scratch_folder(root) / "logs" / str(flow_run.root_flow_run_id or "manual")


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
