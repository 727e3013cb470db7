"""Interruption: Ctrl-C and SIGTERM end a command with one line, at whatever moment they come.

Imports nothing but the standard library: the signals are ours from the first moment on.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_received = signal.SIGINT
_RAISED = ("KeyboardInterrupt", "TerminationSignal")
_AGAIN_S = 0.05


def listen() -> None:
    """Let SIGTERM do what Ctrl-C does: leave every block, so that journals are published and processes are stopped."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts in the background without it
    sys.unraisablehook = _unraisable


def _terminate(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.SIGTERM
    raise KeyboardInterrupt


def _unraisable(swallowed: "sys.UnraisableHookArgs") -> None:
    """Python can only print what is raised in a destructor or a weak reference's callback, and the work would go on.

    A signal that was turned into an exception there is sent again, when the destructor is over.
    """
    number = _number(swallowed.exc_value)
    if number is None:
        sys.__unraisablehook__(swallowed)
    else:
        threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number)).start()


def is_behind(error: BaseException | None) -> bool:
    """Whether ``error`` was raised while a signal was dealt with, as by a library that it caught half made."""
    global _received
    while error is not None:
        if number := _number(error):
            _received = signal.Signals(number)
            return True
        error = error.__cause__ or error.__context__
    return False


def _number(error: BaseException | None) -> int | None:
    """Which signal was turned into ``error``; None where it is another kind of error."""
    if isinstance(error, KeyboardInterrupt):
        return _received
    if isinstance(error, Exception):
        # Compiled code that was calling Python (pydantic building a model) says in its message alone what it caught.
        return _received if any(name in str(error) for name in _RAISED) else None
    # Prefect turns SIGTERM into an exception of its own, which says which signal it was.
    return getattr(error, "signal", None)


def leave() -> NoReturn:
    """Say in one line what ended the command, and exit with 128 + the number of the signal."""
    print(f"{_WORDS[_received]}; run the same command again to go on", file=sys.stderr)
    raise SystemExit(128 + _received)


def over() -> None:
    """The work is done or given up: what libraries still do at the exit is short, and no signal cuts it in two."""
    for number in _WORDS:
        signal.signal(number, signal.SIG_IGN)
