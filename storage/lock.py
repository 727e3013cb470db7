"""Lock: a file that is locked while its process lives, so that others on this machine see that it died."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock of ``path``, a file made for nothing else, waiting for it; ``shared`` with others who only read."""
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def left_behind(path: Path) -> Iterator[IO[bytes] | None]:
    """The file of a process that is gone, locked for as long as the block lasts; None where that cannot be had.

    Whoever gets the lock cleans up. It is not to be had where the process lives, where somebody else cleans up just
    now, or where he has done so and the file is gone.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file
