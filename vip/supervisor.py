"""Run one command in a session of its own and end all of it when the process that asked for it is gone.

Started by :mod:`vip.processes` as a script, so it imports nothing but the standard library. Standard input is a
pipe that nobody writes to: when its other end closes, by ``stop()`` or because the owner died in any way, SIGKILL
included, the command's process group gets SIGTERM, then SIGKILL. Orphans of the command are adopted and ended too.

    python -S supervisor.py GRACE_SECONDS COMMAND [ARGUMENT ...]
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
_ORPHANS_SECONDS = 5.0


def main() -> int:
    """Supervise until the command ends or the owner is gone; returns the command's exit code."""
    grace, command = float(sys.argv[1]), sys.argv[2:]
    # The owner's terminal sends Ctrl-C to its whole group; the owner decides what that means, not we.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 127
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    owner_gone = False
    while child.poll() is None and not owner_gone:
        ready, _, _ = select.select([0, wake_read], [], [], 1.0)
        owner_gone = 0 in ready and not os.read(0, 1)
        if wake_read in ready and bytes([signal.SIGTERM]) in os.read(wake_read, 64):
            owner_gone = True
    _end(child, grace)
    code = child.wait()
    return 128 - code if code < 0 else code


def _end(child: "subprocess.Popen[bytes]", grace: float) -> None:
    _signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and (child.poll() is None or _children(child.pid)):
        _reap(child.pid)
        time.sleep(0.05)
    _signal_group(child.pid, signal.SIGKILL)
    # Children of the command in groups of their own, as torchrun's, come to us only once their parent is gone.
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while time.monotonic() < deadline and (child.poll() is None or _children(child.pid)):
        for pid in _children(child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap(child.pid)
        time.sleep(0.02)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _reap(main_child: int) -> None:
    """Collect adopted orphans that have ended; the command itself is left to Popen."""
    for pid in _children(main_child):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _children(main_child: int) -> list[int]:
    """Our children other than the command: orphans of it that the kernel handed to us."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123 - standard library only, fast
            return [int(pid) for pid in file.read().split() if int(pid) != main_child]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
