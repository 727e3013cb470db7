"""A real vLLM, started, asked and ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from schemas.bank import Bank
from schemas.errors import VipError
from schemas.region import CentreRegion
from storage.store import sha256_file
from tests.vip.captioning.helpers import captions_of, make_dataset, run
from vip.captioning.endpoint import ClientSettings
from vip.captioning.plan import plan_captions
from vip.captioning.specs import resolve_spec
from vip.nano.dataset import scene_of, write_scenes
from vip.nano.truth import truth
from vip.regions.mask import render_mask
from vip.serving.engine import Engine
from vip.serving.identity import check_served

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "requests"), [("nano-joint", 16), ("nano-split", 32), ("nano-imagine", 16)])
def test_scenes_are_captioned_by_the_model_that_knows_them(engine, store, tmp_path, name, requests):
    """Real vLLM, real weights: the identity is checked, the answers are constrained, and they say what is there."""
    spec = resolve_spec(name, endpoint=engine.endpoint)
    assert not spec.model.declared and spec == resolve_spec(name)
    assert engine.served_name == f"nano@{spec.model.revision[:16]}"
    write_scenes(tmp_path / "images", 16)
    dataset, bank = make_dataset(store, tmp_path / "images"), Bank()
    made, stats = run(store, dataset, spec, [engine.endpoint], tmp_path / "scratch", bank, settings=ClientSettings())
    captions, rejects = captions_of(store, made)
    assert len(captions) == 16 and not rejects and stats.requests == requests
    assert plan_captions(store, dataset, spec, bank).to_ask == 0
    scenes = {sha256_file(path): scene_of(path.name) for path in (tmp_path / "images").iterdir()}
    found = 0
    for row in captions:
        true = truth(scenes[row["image_sha256"]], render_mask(CentreRegion(), bank.view))
        found += set(true.centre) <= {phrase.strip() for phrase in row["centre"].split(",")}
    # One in 64 would be chance: eight colours, eight subjects.
    assert found / len(captions) > 0.25


def test_an_endpoint_that_serves_other_weights_is_refused(engine):
    with pytest.raises(VipError, match="serves nano@"):
        check_served(engine.endpoint, "nano@0000000000000000")


def test_the_whole_tree_ends_when_its_owner_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from vip.serving.engine import Engine\n"
        "e = Engine('nano', Path(sys.argv[1]))\n"
        "e.start(lambda seconds: print(e.pid, flush=True)); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "vllm.log")], stdout=subprocess.PIPE, text=True
    )
    supervisor = psutil.Process(int(owner.stdout.readline()))
    tree = []
    while len(tree) < 3:  # supervisor, API server, engine
        assert owner.poll() is None
        time.sleep(0.5)
        tree = [supervisor, *supervisor.children(recursive=True)]
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert not alive


def test_a_server_that_dies_at_once_says_why(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    started = time.monotonic()
    with pytest.raises(VipError, match="ended with exit code") as caught:
        Engine(folder, Path(tmp_path / "vllm.log")).start()
    assert time.monotonic() - started < 120
    assert "Error" in str(caught.value)
