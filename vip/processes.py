"""Subprocesses that are ours to own: a server or a trainer with its own process group, log file and end."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from schemas.errors import VipError

SERVER_PORTS = (20_000, 32_000)
"""Below what Linux (from 32,768) and the IANA (from 49,152) give to outgoing connections."""

_SUPERVISOR = Path(__file__).with_name("supervisor.py")


class OwnedProcess:
    """A running command that ends when we stop it, when we leave the block, or when we die, SIGKILL included.

    Args:
        command: program and arguments; no shell is involved.
        log: file that receives both output streams, appended to.
        environment: the whole environment; ours where None.
        grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        grace: float = 10.0,
    ) -> None:
        self.command, self.log, self.grace = list(command), log, grace
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                [sys.executable, "-S", "-E", str(_SUPERVISOR), str(grace), *self.command],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if environment is None else environment),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the supervisor, whose only child is the command."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code of the command (128 + n where signal n ended it), None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end by itself.

        Raises:
            subprocess.TimeoutExpired: where it has not within ``timeout`` seconds.
        """
        return self._process.wait(timeout)

    def stop(self) -> int:
        """End the command and everything it started; returns its exit code."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            return self._process.wait(self.grace + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_lines(self, count: int = 5) -> str:
        """The end of the log on one line, for an error message."""
        return last_lines(self.log, count)

    def __enter__(self) -> "OwnedProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def last_lines(log: Path, count: int = 5) -> str:
    """The last lines of a log file that say something, joined by `` | ``."""
    if not log.exists():
        return "no log"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "its log is empty"


def wait_until(ready: Callable[[], bool], process: OwnedProcess, seconds: float, every: float = 0.2) -> bool:
    """Ask ``ready()`` until it is true (True), or the process has ended or the time is up (False)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return True
        time.sleep(every)
    return False


def check_port(host: str, port: int) -> None:
    """Whether a server of ours could listen there now.

    Raises:
        VipError: where another listens there already, or nobody can.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a server that ended leaves is free
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise VipError(f"nothing can listen at {host}:{port}: {why}", "give another port") from error


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody uses now, from below those that the system hands out by itself.

    A server takes half a minute to listen, and a port of the system's own range can become the near end of
    somebody's connection meanwhile.

    Raises:
        OSError: where no port is free.
    """
    for _ in range(100):
        port = random.randrange(*SERVER_PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind((host, port))
            return port
    raise OSError(f"no free TCP port found on {host} between {SERVER_PORTS[0]} and {SERVER_PORTS[1]}")
