"""The whole run through the command line, on real parts: Prefect's server, vLLM, diffusers, real signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.manifest import ArtifactRef
from schemas.tables import ANSWERS, CAPTION_REJECTS, CAPTIONS
from storage.refs import Refs
from storage.store import ArtifactStore
from storage.tables import read_table

pytestmark = pytest.mark.slow
SIZE = 60


def environment():
    """Ours without Prefect's settings: other tests of this process may have left those of a server that is gone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def vip(*arguments, root, check=True):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "--root", str(root)],
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
        env=environment(),
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def demo(root, *more):
    return json.loads(vip("demo", "--size", str(SIZE), "--steps", "6", "--json", *more, root=root).stdout)


def stage(result, name):
    return next(one for one in result["summary"]["stages"] if one["name"] == name)


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


def test_sigkill_in_the_middle_of_captioning_loses_and_repeats_nothing(tmp_path, engine):
    root = tmp_path / "root"
    from vip.nano.dataset import write_scenes

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


def test_a_folder_of_real_photographs_goes_through_the_same_run(tmp_path, engine):
    import shutil

    import skimage.data
    import sklearn.datasets

    folder = tmp_path / "photos"
    folder.mkdir()
    sources = [Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images"]
    for path in sorted(path for source in sources for path in source.iterdir()):
        if path.suffix in (".png", ".jpg", ".jpeg", ".txt", ".xml"):
            shutil.copy(path, folder)
    result = demo(tmp_path / "root", "--images", str(folder), "--endpoint", engine.endpoint)
    store = ArtifactStore(tmp_path / "root")
    stats = store.require(ArtifactRef.model_validate(result["dataset"])).stats
    assert stats["samples"] >= 20 and stats["reasons"]["not_an_image"] >= 1
    assert (store.local(store.require(ArtifactRef.model_validate(result["report"]))) / "report.html").is_file()
