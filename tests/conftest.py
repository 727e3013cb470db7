"""What tests of several floors share."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from filelock import FileLock

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side, one a core; torch in each would take all cores for itself. Read before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_PATIENCE = 1200
"""Seconds that the worker whose engine it is waits for those that still use it."""


@dataclass(frozen=True)
class Served:
    """A real vLLM that serves the committed captioner."""

    endpoint: str
    served_name: str


@pytest.fixture(scope="session")
def engine(tmp_path_factory, request) -> Iterator[Served]:
    """A real vLLM for all tests that only ask it; workers side by side share one, for its start takes both cores."""
    worker = getattr(request.config, "workerinput", {}).get("workerid", "only")
    place = tmp_path_factory.getbasetemp() if worker == "only" else tmp_path_factory.getbasetemp().parent
    known, users = place / "engine.json", place / "engine-users"
    users.mkdir(exist_ok=True)
    started = None
    with FileLock(place / "engine.lock"):
        if not known.exists():
            from vip.serving.engine import Engine

            started = Engine("nano", place / "vllm.log").start()
            known.write_text(json.dumps(asdict(Served(started.endpoint, started.served_name))))
        (users / worker).touch()
    yield Served(**json.loads(known.read_text()))
    (users / worker).unlink()
    if started is not None:
        _wait_for_the_last(users)
        with FileLock(place / "engine.lock"):
            known.unlink()
            started.stop()


def _wait_for_the_last(users: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while any(users.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.5)


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server on loopback that fails on request; the environment points at it while it runs."""
    from s3_server import s3_server

    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_root(s3, tmp_path, monkeypatch):
    """An empty root in a bucket of its own, with its scratch folder in ``tmp_path``."""
    monkeypatch.setenv("VIP_SCRATCH", str(tmp_path / "scratch"))
    return s3.bucket(f"bucket-{uuid.uuid4().hex[:12]}") + "/some/prefix"
