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
    ours = issubclass(swallowed.exc_type, KeyboardInterrupt)
    number = _received if ours else getattr(swallowed.exc_value, "signal", None)  # so Prefect says which one it was
    if number is None:
        sys.__unraisablehook__(swallowed)
    else:
        threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number)).start()


def leave() -> NoReturn:
    """Say in one line what ended the command, and exit with 128 + the number of the signal."""
    print(f"{_WORDS[_received]}; run the same command again to go on", file=sys.stderr)
    raise SystemExit(128 + _received)


def over() -> None:
    """The work is done or given up: what libraries still do at the exit is short, and no signal cuts it in two."""
    for number in _WORDS:
        signal.signal(number, signal.SIG_IGN)
