"""A ``vip`` command as its users run it: a process of its own, judged by how it ends and by what it leaves."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.flows._command import environment

MARK = "VIP_STORM"
"""Environment variable that every process of one command carries, however many sessions it opens."""

PATIENCE = 300.0
LEFT_SECONDS = 20.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    command: str
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> list[str]:
        """Lines on standard error that are no progress."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return [line for line in lines if not line.startswith(("  ", "Prefect's page: "))]

    @property
    def told(self) -> str:
        """All of it, for an assertion that fails."""
        return f"{self.command}: exit {self.code}, it said:\n{self.err[-3000:]}"

    def well(self) -> "Ended":
        """Assert that it did its work without a word, or ended with one line and a code other than zero."""
        assert "Traceback" not in self.err, self.told
        if self.code == 0:
            assert not self.complaint, self.told
        else:
            assert len(self.complaint) == 1, self.told
            assert self.complaint[0].startswith(("vip: ", "interrupted; ", "terminated; ")), self.told
        return self

    def done(self) -> "Ended":
        """Assert that it did its work."""
        assert self.well().code == 0, self.told
        return self

    def refused(self, *words: str) -> "Ended":
        """Assert that it ended with one line that holds one of ``words``."""
        assert self.well().code != 0, f"{self.command}: it went on"
        assert any(word in self.complaint[0] for word in words), self.told
        return self


class Command:
    """A running ``vip``; a context that leaves no process behind.

    Args:
        arguments: of ``vip``.
        root: its ``--root``.
        env: added to our environment.
        launcher: socket of a :mod:`tests.storms.launcher` that forks it; where None a new interpreter is started.
        prefix: a command that runs the new interpreter.
    """

    def __init__(
        self,
        *arguments: str,
        root: Path | str,
        env: dict[str, str] | None = None,
        launcher: Path | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.name = " ".join(("vip", *arguments))
        self.code: int | None = None
        self._mark = uuid.uuid4().hex
        self._files = tempfile.TemporaryDirectory(prefix="storm-")
        self._out, self._err = (Path(self._files.name) / name for name in ("out", "err"))
        self._out.touch()
        self._err.touch()
        whole = {**environment(), "OMP_NUM_THREADS": "1", **(env or {}), MARK: self._mark}
        arguments = (*arguments, "--root", str(root))
        self._talk = None
        self._process: subprocess.Popen[bytes] | None = None
        if launcher is None:
            with self._out.open("ab") as out, self._err.open("ab") as err:
                self._process = subprocess.Popen(
                    [*prefix, sys.executable, "-m", "flows.cli", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=whole,
                    start_new_session=True,
                )
            self.pid = self._process.pid
            return
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(launcher))
        order = {"arguments": arguments, "environment": whole, "out": str(self._out), "err": str(self._err)}
        self._talk = self._connection.makefile("rw")
        self._talk.write(json.dumps(order) + "\n")
        self._talk.flush()
        self.pid = int(self._talk.readline())

    def poll(self, seconds: float = 0.0) -> int | None:
        """The exit code, None where it still runs after ``seconds``."""
        if self.code is None and self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.code = self._process.wait(seconds)
        elif self.code is None:
            with contextlib.suppress(OSError):
                self._connection.settimeout(max(seconds, 0.001))
                if line := self._connection.recv(16):
                    self.code = int(line)
        return self.code

    def listening(self, seconds: float = 60.0) -> "Command":
        """Wait until it is our own code that decides what a signal means: before, it is Python's."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.poll() is None:
            with contextlib.suppress(OSError):
                caught = Path(f"/proc/{self.pid}/status").read_text().split("SigCgt:")[1].split()[0]
                if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
                    break
            time.sleep(0.01)
        return self

    def signal(self, number: int) -> None:
        """Send a signal to the command itself, as a process manager does; nothing where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, seconds: float = PATIENCE) -> Ended:
        """Wait for its end; assert that it comes, and that no process of it is left."""
        if self.poll(seconds) is None:
            self.signal(signal.SIGUSR1)  # what the launcher forked says where each of its threads is
            self.poll(1.0)
            raise AssertionError(f"{self.name} did not end within {seconds:.0f} s:\n{self._said(self._err)}")
        left = self._left(LEFT_SECONDS)
        names = [" ".join(_command_line(one)) for one in left]
        assert not left, f"{self.name} ended with {self.code} and left {names}"
        return Ended(self.name, self.code or 0, self._said(self._out), self._said(self._err))

    def _left(self, seconds: float) -> list[psutil.Process]:
        """What still carries our mark, given some seconds to go."""
        deadline = time.monotonic() + seconds
        while (left := _marked(self._mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    @staticmethod
    def _said(file: Path) -> str:
        return file.read_text(errors="replace")

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.poll(10)
        for one in _marked(self._mark):
            with _gone():
                one.kill()
        self._files.cleanup()


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        with _gone():
            if one.environ().get(MARK) == mark and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def _command_line(process: psutil.Process) -> list[str]:
    with _gone():
        return process.cmdline()
    return ["gone"]


def _gone():
    return contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, ProcessLookupError)
