"""A real vLLM, started, asked and ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from schemas.errors import VipError
from tests.tiny_blip2 import make_tiny_blip2
from tests.vip.captioning.helpers import BANK, captions_of, make_dataset, make_spec, make_tokenizer, run, write_images
from vip.captioning.endpoint import ClientSettings
from vip.captioning.plan import plan_captions
from vip.captioning.specs import resolve_model
from vip.serving.engine import Engine, find_serve_python
from vip.serving.identity import check_served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    find_serve_python()
    return make_tiny_blip2(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def engine(model, tmp_path_factory):
    with Engine(model, tmp_path_factory.mktemp("log") / "vllm.log") as engine:
        yield engine


def test_captions_through_a_real_vllm(engine, model, store, tmp_path):
    """Split: rendered pixels, constrained answers, the identity checked by the served name."""
    from schemas.spec import ModelIdentity

    identity = resolve_model(ModelIdentity(id="tiny"), str(model), engine.endpoint)
    assert not identity.declared and engine.served_name == f"tiny@{identity.revision[:16]}"
    assert identity == resolve_model(ModelIdentity(id="tiny"), str(model), None)
    spec = make_spec(
        make_tokenizer(tmp_path / "tokenizer"),
        strategy="split",
        model=identity,
        constraint={part: {"regex": "[a-z]{3,5}, [a-z]{3,5}"} for part in ("centre", "surrounding")},
    )
    dataset = make_dataset(store, write_images(tmp_path / "images", 12, size=32))
    made, stats = run(store, dataset, spec, [engine.endpoint], tmp_path / "scratch", settings=ClientSettings())
    captions, rejects = captions_of(store, made)
    assert len(captions) == 12 and not rejects and stats.requests == 24
    assert all(len(row["centre"].split(", ")) == 2 for row in captions)
    assert plan_captions(store, dataset, spec, BANK).missing == 0


def test_an_endpoint_that_serves_other_weights_is_refused(engine):
    with pytest.raises(VipError, match="serves tiny@"):
        check_served(engine.endpoint, "tiny@0000000000000000")


def test_the_whole_tree_ends_when_its_owner_is_killed(model, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from vip.serving.engine import Engine\n"
        "e = Engine(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "e.start(lambda seconds: print(e.pid, flush=True)); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(model), str(tmp_path / "vllm.log")], stdout=subprocess.PIPE, text=True
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
