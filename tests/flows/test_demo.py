"""The whole run through the command line, on real parts: Prefect's server, vLLM, diffusers, real signals."""

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest
from openlineage.client.serde import Serde

from flows.cli.main import main
from schemas.manifest import ArtifactRef, Kind
from schemas.tables import CAPTIONS, GENERATED, SAMPLES
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.flows._command import SIZE, demo, stage, vip
from tests.openlineage_models import rebuilt
from tests.tamper import files_of, flipped, mentioned
from vip.report.words import number

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


def test_every_number_of_the_report_leads_to_the_bytes_of_images(first, again, capsys):
    root, _ = first
    report = ArtifactRef.model_validate(again["report"])
    store = ArtifactStore(root)
    page = (store.local(store.require(report)) / "report.html").read_text()
    rows = re.findall(r'<td class="right">([^<]+)</td><td><code>([0-9a-f]+)</code></td></tr>', page)
    figures = {metric_id: value for value, metric_id in rows}
    assert len(figures) == len(rows) > 10
    # What the large table shows is what the small one names.
    assert sorted(re.findall(r'<span class="value">([^<]+)</span>', page)) == sorted(figures.values())
    for metric_id, value in figures.items():
        main(["audit", "metric", metric_id, "--json", "--root", str(root)])
        told = json.loads(capsys.readouterr().out)
        assert number(told["metric"]["metric"], told["metric"]["value"]) == value
        assert told["checks"] and all(check["ok"] for check in told["checks"])
        assert examined(store, told["made_by"]["evaluation"]) <= images_behind(root, told["data"]["image_bytes"])


def examined(store, evaluation):
    """Images that an exam continued."""
    inputs = store.get("evaluation", evaluation).inputs
    samples = [store.require(ref) for role, ref in inputs.items() if role.startswith("samples/")]
    tables = [read_table(store.read(one, "samples.parquet"), GENERATED) for one in samples]
    return {image for table in tables for image in table.column("image_sha256").to_pylist()}


def images_behind(root, places):
    """Images whose bytes stand in the tars that the audit names, re-hashed from there."""
    found = set()
    for place in places:
        tar = (root / place["file"]).read_bytes()
        rows = read_table((root / place["file"]).with_name("samples.parquet"), SAMPLES).to_pylist()
        for row in rows:
            data = tar[row["offset"] : row["offset"] + row["bytes"]]
            assert hashlib.sha256(data).hexdigest() == row["image_sha256"]
            found.add(row["image_sha256"])
    return found


def test_one_byte_flipped_in_any_file_is_found_and_named(first, again):
    root, _ = first
    kinds = set()
    for path in files_of(root, "artifacts", "published", "answers"):
        with flipped(path, path.stat().st_size // 2):
            assert path.relative_to(root).as_posix() in mentioned(root), path
        kinds.add(path.relative_to(root).parts[1])
    # The suppression list, the record of a takedown and what is precomputed have tests of their own.
    assert set(get_args(Kind)) - {"suppression", "takedown", "latents", "embeddings"} <= kinds
    victim = next(root.glob("artifacts/promotion/*/*/comparison.parquet"))
    with flipped(victim, 100):
        done = vip("audit", "verify", root=root, check=False)
    assert done.returncode == 1 and f"PROBLEM  {victim.relative_to(root).as_posix()}: changed" in done.stdout
    vip("audit", "verify", root=root)


def test_the_openlineage_file_of_the_run_is_taken_by_the_official_models(first, again, tmp_path):
    root, _ = first
    vip("export", "openlineage", "--out", str(tmp_path / "events.ndjson"), root=root)
    events = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    for event in events:
        assert json.loads(Serde.to_json(rebuilt(event))) == event
    made = {(event["job"]["name"], event["eventType"]) for event in events}
    assert {("judge_promotion", "COMPLETE"), ("train", "COMPLETE"), ("run_gate", "COMPLETE")} <= made
    runs = {event["run"]["facets"]["parent"]["run"]["runId"] for event in events}
    store = ArtifactStore(root)
    assert runs == {one.run.id for kind in ("promotion", "report") for one in store.list(kind)}  # Prefect's runs


def test_one_changed_image_costs_two_shards_and_its_own_captions(first, engine):
    root, _ = first
    images = sorted((root / "demo-images").iterdir())
    images[3].write_bytes(images[3].read_bytes() + b"\0")  # other bytes, so another image
    result = demo(root, "--endpoint", engine.endpoint)
    assert stage(result, "shard")["made"] <= 3  # two shards and the dataset
    assert result["requests"] == 2  # one for each spec
