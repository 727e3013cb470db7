"""A captioning run killed in the middle, with a vLLM of its own: nothing is lost, nothing is asked twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from schemas.tables import ANSWERS, CAPTION_REJECTS, CAPTIONS
from storage.refs import Refs
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.flows._command import environment, vip
from vip.nano.dataset import write_scenes

pytestmark = pytest.mark.slow


def test_sigkill_in_the_middle_of_captioning_loses_and_repeats_nothing(tmp_path, engine):
    root = tmp_path / "root"
    write_scenes(tmp_path / "images", 300)
    vip("shard", str(tmp_path / "images"), "--name", "scenes", "--bits", "2", root=root)
    with (tmp_path / "caption.log").open("wb") as said:
        running = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "caption", "scenes", "--root", str(root)],
            start_new_session=True,
            stdout=said,
            stderr=said,
            env=environment(),
        )
    _wait(lambda: len(_answered(root)) >= 20, running, tmp_path / "caption.log")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = len(_answered(root))
    done = json.loads(vip("caption", "scenes", "--endpoint", engine.endpoint, "--json", root=root).stdout)
    assert done["requests"] == 300 - kept
    assert done["rows"] + done["rejected"] == 300
    store = ArtifactStore(root)
    captions = store.require(Refs(store.backend).get("captions/scenes"))
    images = []
    for ref in captions.inputs.values():
        if ref.kind == "captions":
            for name, schema in (("captions.parquet", CAPTIONS), ("rejects.parquet", CAPTION_REJECTS)):
                images += read_table(store.read(store.require(ref), name), schema).column("image_sha256").to_pylist()
    assert len(images) == len(set(images)) == 300
    asked = [
        request
        for path in root.glob("answers/**/*.parquet")
        for request in read_table(path, ANSWERS).column("request_id").to_pylist()
    ]
    assert len(asked) == len(set(asked))


def _answered(root):
    """Ids of the requests whose answers are kept: in whole lines of a journal, or published."""
    kept = set()
    for path in root.glob("scratch/answers/**/*"):
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        kept |= {row["request_id"] for row in map(json.loads, lines) if "request_id" in row}
    for path in root.glob("answers/**/*.parquet"):
        kept |= set(read_table(path, ANSWERS).column("request_id").to_pylist())
    return kept


def _wait(ready, process, log, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"it ended before it could be killed:\n{log.read_text()}"
        if ready():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited too long:\n{log.read_text()}")
