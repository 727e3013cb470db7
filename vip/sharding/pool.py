"""Run a function over many items in threads, in order, with a bounded number in flight and in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from schemas.manifest import Manifest, Recipe
from storage.store import ArtifactStore

T = TypeVar("T")
R = TypeVar("R")

_LOOKUPS = 32  # at once, of a store over a network: each takes three answers of some 20 ms


def batches(items: Iterable[T], size_of: Callable[[T], int], most: int, most_bytes: int) -> Iterator[list[T]]:
    """Groups large enough that handing one to a thread costs little, small enough to bound what is in memory."""
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item)
        if len(batch) >= most or size >= most_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def bounded_map(call: Callable[[T], R], items: Iterable[T], workers: int, ahead: int = 2) -> Iterator[R]:
    """Yield ``call(item)`` for each item, in order; at most ``workers * (1 + ahead)`` items are held at a time.

    Threads, not processes: reading, SHA-256 and Pillow's decoders let go of the interpreter lock. Two threads decode
    0.9 times as fast as two processes here, ship no bytes, and are safe inside a flow that runs threads itself.
    """
    if workers <= 1:
        yield from map(call, items)
        return
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="shard") as pool:
        try:
            for item in items:
                pending.append(pool.submit(call, item))
                if len(pending) >= workers * (1 + ahead):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def find_all(store: ArtifactStore, recipes: Iterable[Recipe]) -> Iterator[Manifest | None]:
    """What stands of each recipe, in their order; a store that is asked over a network is asked for many at once.

    Whoever takes them one after the other holds few of them: 20,000 manifests are well over 100 MB.
    """
    return bounded_map(store.find, recipes, 1 if store.backend.is_local else _LOOKUPS)
