"""The whole run through the command line, on real parts: Prefect's server, vLLM, diffusers, real signals."""

import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.manifest import ArtifactRef
from schemas.tables import CAPTIONS
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.flows._command import SIZE, demo, stage, vip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "root"
    done = vip("demo", "--size", str(SIZE), "--steps", "6", root=root)
    return root, done


@pytest.fixture(scope="module")
def again(first):
    root, _ = first
    return demo(root)


def test_the_log_is_calm_and_says_what_was_made(first):
    _, done = first
    log = done.stdout + done.stderr
    assert not re.search(r"Traceback|[Ww]arning|Error|deprecat", log), log
    assert "vip audit verify" in done.stdout
    page = re.search(r"^report +(.+)$", done.stdout, re.M)[1]
    assert Path(page).is_file() and "data:image/png" in Path(page).read_text()
    pipeline = re.search(r"^checkpoint +(.+)$", done.stdout, re.M)[1]
    assert (Path(pipeline) / "model_index.json").is_file()


def test_nothing_is_left_running(first):
    root, _ = first
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(root) not in found


def test_again_everything_is_reused(again):
    assert again["requests"] == 0 and again["steps"] == 0
    assert not any(one["made"] for one in again["summary"]["stages"])
    assert all(one["reused"] for one in again["summary"]["stages"])


def test_every_caption_and_metric_has_its_chain_and_all_is_verified(first, again):
    root, result = first[0], again
    store = ArtifactStore(root)
    captions = store.require(ArtifactRef.model_validate(result["captions"]))
    rows = [
        row
        for role, ref in captions.inputs.items()
        for row in read_table(store.read(store.require(ref), "captions.parquet"), CAPTIONS).to_pylist()
    ]
    chain = vip("audit", "caption", rows[0]["caption_id"], root=root).stdout
    for part in (rows[0]["image_sha256"][:16], "nano-joint", rows[0]["request_ids"][0][:16], "shard"):
        assert part in chain
    evaluation = store.require(ArtifactRef.model_validate(result["evaluation"]))
    metrics = pa.parquet.read_table(pa.BufferReader(store.read(evaluation, "metrics.parquet"))).to_pylist()
    told = vip("audit", "metric", metrics[0]["metric_id"], root=root).stdout
    for part in (result["checkpoint"]["digest"], result["captions"]["key"], result["dataset"]["key"]):
        assert part in told
    vip("audit", "verify", root=root)


def test_one_changed_byte_is_found_and_named(first):
    root, _ = first
    victim = next(root.glob("artifacts/captions/*/*/captions.parquet"))
    good = victim.read_bytes()
    victim.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    try:
        done = vip("audit", "verify", root=root, check=False)
        assert done.returncode != 0
        assert victim.relative_to(root).as_posix() in done.stdout + done.stderr
    finally:
        victim.write_bytes(good)


def test_one_changed_image_costs_two_shards_and_its_own_captions(first, engine):
    root, _ = first
    images = sorted((root / "demo-images").iterdir())
    images[3].write_bytes(images[3].read_bytes() + b"\0")  # other bytes, so another image
    result = demo(root, "--endpoint", engine.endpoint)
    assert stage(result, "shard")["made"] <= 3  # two shards and the dataset
    assert result["requests"] == 2  # one for each spec
