"""The world that storms break into: images, a stand-in for vLLM, a real Prefect server, and roots made in calm."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from filelock import FileLock

from flows.server import QUIET
from schemas.manifest import Kind
from storage.store import ArtifactStore, sha256_file
from tests.flows._command import environment
from tests.s3_server import S3Server, s3_server
from tests.storms.command import Command, Ended
from vip.lineage.verify import verify
from vip.nano.dataset import write_scenes
from vip.processes import free_port

IMAGES = 24
STAGES = ("empty", "sharded", "captioned", "trained", "evaluated")
MODEL = "storm"


class World:
    """Everything that outlives a round.

    Args:
        folder: for its servers and rounds.
        shared: folder of the images and of what is made in calm; several worlds may share one.

    Attributes:
        images: folder of drawn scenes.
        endpoint: base URL of the stand-in; its answers are a function of the request.
        prefect: the Prefect server that commands are pointed at, so that a round need not start one.
    """

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.shared = folder, shared or folder
        self.images = self.shared / "images"
        with FileLock(self.shared / "images.lock"):
            write_scenes(self.images, IMAGES)
        self.model = Server(folder / "model.log", "-m", "tests.fake_openai", "--model", MODEL, "--latency", "0.05")
        self.prefect = PrefectServer(folder)
        self.launcher = Launcher(folder, {**environment(), **self.env})
        self._s3: S3Server | None = None
        self._calm: set[str] = set()
        self._rounds = 0
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "World":
        with contextlib.ExitStack() as opened:
            for server in (self.model, self.prefect, self.launcher):
                opened.callback(server.stop)
                server.start()
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def env(self) -> dict[str, str]:
        """What commands need to find the Prefect server."""
        return {**QUIET, "PREFECT_API_URL": self.prefect.api, "OMP_NUM_THREADS": "1"}

    def arguments(self, stage: str) -> tuple[str, ...]:
        """The command that makes a stage of the one before."""
        ask = ("--model", MODEL, "--view", "64x64", "--endpoint", self.model.url)
        return {
            "sharded": ("shard", str(self.images), "--name", "scenes", "--bits", "2"),
            "captioned": ("caption", "scenes", "--spec", "nano-joint", *ask),
            "trained": ("train", "--config", str(self.config("train", TRAIN))),
            "evaluated": ("evaluate", "--config", str(self.config("evaluate", EVALUATE))),
        }[stage]

    def start(
        self, *arguments: str, root: Path | str, env: dict[str, str] | None = None, fresh: bool = False
    ) -> Command:
        """Start a command: forked, or ``fresh`` as a new interpreter."""
        launcher = None if fresh else self.launcher.socket
        return Command(*arguments, root=root, env={**self.env, **(env or {})}, launcher=launcher)

    def vip(self, *arguments: str, root: Path | str, env: dict[str, str] | None = None) -> Ended:
        """Run a command to its end."""
        with self.start(*arguments, root=root, env=env) as command:
            return command.end()

    def make(self, stage: str, root: Path | str, env: dict[str, str] | None = None) -> Ended:
        """Make ``stage`` in ``root``."""
        return self.vip(*self.arguments(stage), root=root, env=env)

    def config(self, name: str, values: dict) -> Path:
        """A config file with these values."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def calm(self, stage: str) -> Path:
        """The root in which every stage up to ``stage`` was made without a disturbance."""
        number = STAGES.index(stage)
        if number == 0:
            (self.shared / "calm" / stage).mkdir(parents=True, exist_ok=True)
            return self.shared / "calm" / stage
        return self.made(stage, STAGES[number - 1], self.arguments(stage))

    def made(self, name: str, stage: str, command: tuple[str, ...], env: dict[str, str] | None = None) -> Path:
        """The root in which ``command`` was run in calm after ``stage``; made once, for all worlds that share it."""
        root = self.shared / "calm" / name
        if name in self._calm:
            return root
        before = self.calm(stage)
        with FileLock(self.shared / f"{name}.lock"):
            if not root.exists():
                draft = self.new_folder() / "root"
                copy_root(before, draft)
                self.vip(*command, root=draft, env=env).done()
                whole(draft)
                shutil.rmtree(draft / "scratch", ignore_errors=True)
                draft.rename(root)
        self._calm.add(name)
        return root

    @property
    def first_image(self) -> str:
        """SHA-256 of an image."""
        return sha256_file(min(self.images.iterdir()))

    def s3(self) -> S3Server:
        """A real S3 server that fails on request; started when it is first asked for."""
        if self._s3 is None:
            self._s3 = self._open.enter_context(s3_server(self.folder, in_environment=False))
        return self._s3

    def new_folder(self) -> Path:
        """An empty folder for a round."""
        self._rounds += 1
        folder = self.folder / f"round-{self._rounds}"
        folder.mkdir()
        return folder

    def how(self, prefix: tuple[str, ...]) -> dict[str, Any]:
        """How a command is started: forked, or by a new interpreter where something is to run it."""
        return {"prefix": prefix} if prefix else {"launcher": self.launcher.socket}

    def root(self, stage: str) -> contextlib.AbstractContextManager[Path]:
        """A fresh root in which all up to ``stage`` is made; gone after the round."""
        return self.copy(self.calm(stage))

    @contextlib.contextmanager
    def copy(self, source: Path) -> Iterator[Path]:
        """A root like ``source``; gone after the round."""
        root = self.new_folder() / "root"
        copy_root(source, root)
        try:
            yield root
        finally:
            shutil.rmtree(root.parent, ignore_errors=True)

    def same(self, root: Path | str, stage: str) -> None:
        """Assert that ``root`` holds what calm gives: the same artifacts, each once, byte for byte, and no other."""
        whole(root)
        equal(everything(root), everything(self.calm(stage)))


TRAIN = {
    "name": "scenes",
    "data": [{"dataset": "scenes"}],
    "train": {"steps": 4, "warmup": 1, "batch": 2, "checkpoint_every": 1, "log_every": 1},
}
EVALUATE = {
    "name": "scenes",
    "checkpoint": "checkpoint/scenes",
    "dataset": "scenes",
    "prompts": {"oracle": "scenes"},
    "evaluate": {"settings": ["oracle"], "split": "train", "images": 4, "steps": 2, "resamples": 100, "floor": False},
}


def copy_root(source: Path, target: Path, links: bool = True) -> None:
    """A root like another, without its scratch; its objects are immutable, so that links are as good as copies."""

    def left_out(folder: str, _: list[str]) -> tuple[str, ...]:
        return ("scratch", "index") if folder == str(source) else ()

    shutil.copytree(source, target, copy_function=os.link if links else shutil.copyfile, ignore=left_out)


def everything(root: Path | str) -> dict[tuple[str, str], str]:
    """(kind, key) -> digest of all that is published in a root."""
    store = ArtifactStore(str(root))
    return {(kind, made.key): made.digest for kind in get_args(Kind) for made in store.list(kind)}


def equal(found: dict[tuple[str, str], str], wanted: dict[tuple[str, str], str]) -> None:
    """Assert that two roots hold the same, and say what only one of them holds."""
    more, less = (dict(sorted(one.items() - other.items())) for one, other in ((found, wanted), (wanted, found)))
    assert not more and not less, f"only here: {more}; only in calm: {less}"


def whole(root: Path | str) -> None:
    """Assert that every file of a root is what was published, and that every link and ref leads somewhere."""
    found = verify(ArtifactStore(str(root)).backend)
    assert found.ok, found.problems


class Server:
    """A Python server process on a port of its own that a round may end and start again."""

    def __init__(self, log: Path, *command: str, environment: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._health, self._log, self._environment = f"{self.url}/health", log, environment
        self._command = [sys.executable, *command, "--port", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                self._command, stdout=sink, stderr=sink, env=self._environment, start_new_session=True
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(self._health, timeout=2):
                return
            time.sleep(0.1)
        raise AssertionError(f"it did not answer: {self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL, as when its machine goes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    stop = kill


class PrefectServer(Server):
    """A real Prefect server with a SQLite file that outlives it."""

    def __init__(self, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        # Nothing here is scheduled, late or triggered; what looks for it would cost more than the rounds.
        idle = ("SCHEDULER", "LATE_RUNS", "TRIGGERS", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "FOREMAN")
        environment |= {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in idle}
        super().__init__(folder / "prefect.log", "-m", "prefect", "server", "start", environment=environment)
        self.api = f"{self.url}/api"
        self._health = f"{self.api}/health"


class Launcher:
    """The process that forks commands; see :mod:`tests.storms.launcher`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.socket, self._log = folder / "launcher.sock", folder / "launcher.log"
        self._environment = environment  # Prefect reads its part of it when it is imported
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes orders."""
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.storms.launcher", str(self.socket)],
                stdout=sink,
                stderr=sink,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + 300
        while not self.socket.exists():
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.1)

    def stop(self) -> None:
        """End it; what it forked has ended before."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
