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
from vip.nano.ask import Question, ask
from vip.nano.dataset import DEMO_SEED, write_scenes
from vip.nano.instructions import JOINT
from vip.nano.scene import make_scene
from vip.nano.truth import truth
from vip.nano.world import draw
from vip.regions.mask import render_mask
from vip.serving.engine import Engine
from vip.serving.identity import check_served, served_models

pytestmark = pytest.mark.slow

KEY = "sk-kEyKeYkEyKeY0123456789"


@pytest.mark.parametrize(("name", "requests"), [("nano-joint", 16), ("nano-split", 32), ("nano-imagine", 16)])
def test_scenes_are_captioned_by_the_model_that_knows_them(engine, store, tmp_path, name, requests):
    """Real vLLM, real weights: the identity is checked, the answers are constrained, and they say what is there."""
    spec = resolve_spec(name, endpoint=engine.endpoint)
    assert not spec.model.declared and spec == resolve_spec(name)
    assert engine.served_name == f"nano@{spec.model.revision[:16]}"
    paths = write_scenes(tmp_path / "images", 16)
    dataset, bank = make_dataset(store, tmp_path / "images"), Bank()
    made, stats = run(store, dataset, spec, [engine.endpoint], tmp_path / "scratch", bank, settings=ClientSettings())
    captions, rejects = captions_of(store, made)
    assert len(captions) == 16 and not rejects and stats.requests == requests
    assert plan_captions(store, dataset, spec, bank).to_ask == 0
    scenes = {sha256_file(path): make_scene(DEMO_SEED + number) for number, path in enumerate(paths)}
    found = 0
    for row in captions:
        true = truth(scenes[row["image_sha256"]], render_mask(CentreRegion(), bank.view))
        found += set(true.centre) <= {phrase.strip() for phrase in row["centre"].split(",")}
    # One in 64 would be chance: eight colours, eight subjects.
    assert found / len(captions) > 0.25


def test_an_endpoint_that_serves_other_weights_is_refused(engine):
    with pytest.raises(VipError, match="serves nano@"):
        check_served(engine.endpoint, "nano@0000000000000000")


def test_the_key_is_demanded_and_the_whole_tree_ends_when_its_owner_is_killed(store, tmp_path, monkeypatch):
    """One server for both: neither its log, its command lines, the answers nor the manifests hold the key."""
    monkeypatch.setenv("VIP_API_KEY", KEY)
    code = (
        "import sys, time; from pathlib import Path; from vip.serving.engine import Engine\n"
        "e = Engine('nano', Path(sys.argv[1])).start(); print(e.pid, e.endpoint, flush=True); time.sleep(600)"
    )
    log = tmp_path / "vllm.log"
    owner = subprocess.Popen([sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE, text=True)
    pid, endpoint = owner.stdout.readline().split()
    supervisor = psutil.Process(int(pid))
    tree = [supervisor, *supervisor.children(recursive=True)]
    assert len(tree) >= 3  # supervisor, API server, engine
    assert not any(KEY in part for one in tree for part in one.cmdline())

    write_scenes(tmp_path / "images", 8)
    dataset, spec = make_dataset(store, tmp_path / "images"), resolve_spec("nano-joint", endpoint=endpoint)
    made, _ = run(store, dataset, spec, [endpoint], tmp_path / "scratch", Bank(), settings=ClientSettings())
    assert len(captions_of(store, made)[0]) == 8
    assert ask(endpoint, [Question(draw(make_scene(0)), JOINT.format(box="4 4 12 12"))])[0].startswith("Center:")
    for key in ("another", ""):
        monkeypatch.setenv("VIP_API_KEY", key)
        with pytest.raises(VipError, match="401"):
            served_models(endpoint)

    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert not alive
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert b"startup complete" in files[log]
    assert [path for path, data in files.items() if KEY.encode() in data] == []


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
