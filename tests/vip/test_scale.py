"""The arithmetic of docs/scale.md: its layout against a root that is made, its table against the page."""

import os
import random
from pathlib import Path

import pytest

from storage.backend import Backend
from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import BANK, make_dataset, make_spec, make_tokenizer, run, write_images
from vip import scale
from vip.captioning.plan import plan_captions
from vip.lineage.index import open_index

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
WORDS = [start + end for start in "bcdfghjklmnprstvw" for end in ("ar", "en", "ilo", "ount", "usk", "ate")]


def fifty_words(body):
    dice = random.Random(body)
    half = [" ".join(dice.choice(WORDS) for _ in range(24)) for _ in range(2)]
    return f"Center: {half[0]}; Surrounding: {half[1]}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A root of 1,024 images in two shards, captioned: (root, dataset, spec)."""
    folder = tmp_path_factory.mktemp("scale")
    store = ArtifactStore(folder / "root")
    dataset = make_dataset(store, write_images(folder / "images", 1024), bits=1)
    spec = make_spec(make_tokenizer(folder / "tokenizer"), budget={"over": "keep"})
    with serving(FakeServer(text=fifty_words)) as url:
        run(store, dataset, spec, [url], folder / "scratch")
    return folder / "root", dataset, spec


def sizes(root, pattern):
    return [path.stat().st_size for path in root.glob(pattern)]


def test_a_root_holds_as_many_objects_as_are_counted(made):
    root, _, _ = made
    segments = len(sizes(root, "answers/*/*/*.parquet"))
    objects = [path for path in root.rglob("*") if path.is_file() and "scratch" not in path.relative_to(root).parts]
    beats = len(sizes(root, "claims/*/holders/*/0*.json"))
    counted = 2 * (scale.SHARD_OBJECTS + scale.CAPTIONS_OBJECTS) + segments * scale.SEGMENT_OBJECTS + beats
    assert len(objects) == counted + scale.FIXED_OBJECTS


def test_a_plan_reads_as_many_objects_as_are_counted(made, monkeypatch):
    root, dataset, spec = made
    read, get = [], Backend.get
    monkeypatch.setattr(Backend, "get", lambda self, path: read.append(path) or get(self, path))
    assert plan_captions(ArtifactStore(root), dataset, spec, BANK).requests == 0
    assert len(read) == 2 * scale.FINISHED_LOOKUPS


def test_captioning_lists_answers_as_often_as_is_counted(tmp_path, monkeypatch):
    store = ArtifactStore(tmp_path / "root")
    dataset = make_dataset(store, write_images(tmp_path / "images", 16), bits=2)
    spec = make_spec(make_tokenizer(tmp_path / "tokenizer"), budget={"over": "keep"})
    listed, starting = [], Backend.list_starting
    monkeypatch.setattr(Backend, "list_starting", lambda self, start: listed.append(start) or starting(self, start))
    with serving(FakeServer(text=fifty_words)) as url:
        run(store, dataset, spec, [url], tmp_path / "scratch")
    shards, segments = len(dataset.inputs), len(sizes(tmp_path / "root", "answers/*/*/*.parquet"))
    assert len(listed) == (shards * scale.ANSWER_LOOKS + segments) * (2 + 1)


def test_rows_are_as_large_as_is_said(made):
    root, _, _ = made
    open_index(str(root))
    (index,) = root.rglob("lineage.sqlite")
    measured = {
        "answer": (sum(sizes(root, "answers/*/*/*.parquet")), scale.ANSWER_BYTES),
        "caption": (sum(sizes(root, "artifacts/captions/*/*/captions.parquet")), scale.CAPTION_BYTES),
        "index": (index.stat().st_size, scale.INDEX_BYTES),
    }
    names = sum(sizes(root, "artifacts/dataset/*/*/names.parquet")) + sum(
        sizes(root, "artifacts/shard/*/*/samples.parquet")
    )
    tar = sum(sizes(root, "artifacts/shard/*/*/samples.tar")) - sum(sizes(root.parent, "images/*"))
    measured["sample"] = (names + tar, scale.SAMPLE_BYTES)
    off = {what: round(total / 1024 / said, 2) for what, (total, said) in measured.items()}
    # A small index is half empty pages; everything else is as said.
    assert 0.9 < off.pop("index") < 1.7
    assert all(0.85 < ratio < 1.15 for ratio in off.values()), off


def test_the_bill_adds_up():
    work = scale.Workload(images=1000, image_bytes=0, bits=0, rate=10.0, engines=4, gpu_hour=3600.0)
    found = scale.bill(work)
    assert (found.requests, found.seconds, found.gpu_days) == (1000, 25.0, 100 / 86_400)
    assert found.answer_listings == 1 * 3 + 6
    assert found.segments == 1 + 5 and found.objects == 10 + 2 * 6 + 3 + 11
    assert found.gpu_cost == pytest.approx(100.0)
    assert scale.bill(scale.Workload(requests=2)).gpu_cost == 2 * scale.bill(scale.Workload()).gpu_cost


def test_the_page_shows_what_is_computed():
    columns = [scale.rows(scale.bill(scale.Workload(requests=requests))) for requests in (1, 2)]
    lines = ["| 64 engines | joint spec | split spec |", "|---|---|---|"]
    lines += [f"| {what} | {joint} | {split} |" for (what, joint), (_, split) in zip(*columns, strict=True)]
    wanted = "\n".join(lines)
    page = PAGE.read_text()
    if os.environ.get("VIP_WRITE_DOCS"):
        before, _, rest = page.partition(lines[0])
        page = before + wanted + "\n\n" + rest.partition("\n\n")[2]
        PAGE.write_text(page)
    assert f"\n{wanted}\n\n" in page
