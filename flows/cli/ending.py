"""Ending: a command decides its exit code, not what libraries do while the process is torn down."""

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Iterator

_code = 1
"""Of an exception that nobody expected."""


@contextlib.contextmanager
def decided() -> Iterator[None]:
    """Around all that a process does: how the block ends is the exit code, and the last that is heard of the process.

    Once Python's own exit handlers have run there is nothing left to do, but native libraries still destroy their
    global objects, and one that finds a thread of its own alive calls ``abort``: now and then a finished ``vip demo``
    ended with 134 and ``terminate called without an active exception``. So the process leaves before them.
    """
    global _code
    atexit.register(_leave)  # the first to be registered is the last to be called
    try:
        yield
        _code = 0
    except SystemExit as leaving:
        _code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise


def _leave() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # who read it is gone
            stream.flush()
    os._exit(_code)
