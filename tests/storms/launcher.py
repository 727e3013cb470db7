"""Launcher: a process that has imported everything once and forks a ``vip`` command, so that a round costs no imports.

    python -m tests.storms.launcher SOCKET

A client sends one line of JSON (arguments, environment, files for the output) and gets two lines back: the pid, and the
exit code once there is one. What is forked is a process of its own in a session of its own, with its own signals.
"""

import faulthandler
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time

PRELOADED = (
    "flows.cli.main",
    "flows.retrain",
    "vip.lineage.forget",
    "vip.lineage.gc",
    "vip.lineage.verify",
    "vip.evaluation.sample",
    "vip.evaluation.scores",
    "diffusers",
    "s3fs",
    "duckdb",
)


def main() -> None:
    """Accept orders for ever."""
    import importlib

    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert threading.active_count() == 1, threading.enumerate()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            keep(connection)
            os._exit(0)
        connection.close()


def keep(connection: socket.socket) -> None:
    """Fork the command and tell its pid and its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile("rw") as talk:
        order = json.loads(talk.readline())
        pid = os.fork()
        if pid == 0:
            run(order)
        talk.write(f"{pid}\n")
        talk.flush()
        _, status = os.waitpid(pid, 0)
        talk.write(f"{os.waitstatus_to_exitcode(status)}\n")


def run(order: dict) -> None:
    """Become the command."""
    os.setsid()
    for number, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        opened = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    faulthandler.register(signal.SIGUSR1, file=2)
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    random.seed()
    sys.argv = ["vip", *order["arguments"]]
    if clock := order["environment"].get("STORM_CLOCK"):
        move_clock(*map(float, clock.split()))
    code = 1
    try:
        from flows.cli.process import main as vip

        vip()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    leave(code)


def move_clock(first: float, after: float, later: float) -> None:
    """Set the wall clock of this process by ``first`` seconds, and ``after`` some seconds by ``later`` more."""
    import time_machine

    moved = time_machine.travel(time.time() + first, tick=True).start()
    timer = threading.Timer(after, lambda: moved.shift(later))
    timer.daemon = True
    timer.start()


def leave(code: int) -> None:
    """End as the interpreter does: wait for threads, run what is registered for the exit, flush."""
    import atexit

    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
