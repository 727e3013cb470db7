"""Latents and embeddings in the lineage: gc keeps them with what they were made from, a takedown erases latents."""

import io
import json
from datetime import timedelta

import pytest
from PIL import Image

from bench._lineage_root import Synthetic, add_captions, make_spec, sha
from schemas.bank import Bank
from schemas.sharding import ShardSettings
from schemas.tables import LATENTS
from schemas.train_config import TrainConfig
from schemas.training import PrecomputeJob
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.tamper import files_of, flipped, mentioned
from tests.vip.diffusion.data import write_base
from vip.diffusion.precompute import precompute
from vip.lineage.forget import plan_takedown, run_takedown
from vip.lineage.gc import plan_gc, run_gc
from vip.lineage.index import open_index
from vip.lineage.verify import verify
from vip.sharding.build import shard_source

NOW = timedelta(0)
KINDS = ("latents", "embeddings")


def draw(number):
    data = io.BytesIO()
    Image.linear_gradient("L").rotate(31 * number).resize((24, 16)).convert("RGB").save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def root(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"{number}.png").write_bytes(draw(number))
    made = Synthetic(ArtifactStore(tmp_path / "root", run_id="run-1"))
    dataset = shard_source(made.store, str(source), ShardSettings(name="photos", bits=1, test_share=0.2), workers=1)
    made.datasets["photos"] = dataset
    made.shards["photos"] = [made.store.require(ref) for ref in dataset.inputs.values()]
    add_captions(made, "photos", "photos", make_spec())
    made.store.base = write_base(tmp_path / "base")
    encode(made)
    return made


def encode(root):
    captions = {part.inputs["shard"].key: part.ref for part in root.captions["photos"]}
    job = PrecomputeJob(
        root=root.store.backend.url,
        run_id="run-2",
        base="tiny",
        base_dir=str(root.store.base),
        config=TrainConfig(view=Bank().view, precompute=KINDS),
        shards=tuple((shard.ref, captions[shard.key]) for shard in root.shards["photos"]),
        progress="unused",
    )
    precompute(job)


def live(root):
    return {kind: {made.key for made in root.store.list(kind)} for kind in KINDS}


def holders(root, image):
    """Keys of the latents that hold it."""
    found = set()
    for made in root.store.list("latents"):
        table = read_table(root.store.read(made, "latents.parquet"), LATENTS)
        if image in table.column("image_sha256").to_pylist():
            found.add(made.key)
    return found


def test_gc_keeps_them_with_their_shard_and_captions_and_takes_them_when_asked(root):
    before = live(root)
    assert {kind: len(keys) for kind, keys in before.items()} == {"latents": 2, "embeddings": 2}
    assert not plan_gc(root.store, grace=NOW).artifacts
    plan = plan_gc(root.store, grace=NOW, precomputed=True)
    assert {made.kind for made in plan.artifacts} == {*KINDS, "model"}
    run_gc(root.store, plan)
    assert not any(live(root).values())
    encode(root)
    assert live(root) == before
    assert verify(root.store.backend).ok


def test_one_byte_flipped_in_any_of_their_files_is_found_and_named(root, tmp_path):
    place = tmp_path / "root"
    files = [path for kind in KINDS for path in files_of(place, f"artifacts/{kind}", f"published/{kind}")]
    assert {path.suffix for path in files} == {".safetensors", ".parquet", ".json"}
    for path in files:
        with flipped(path, path.stat().st_size // 2):
            assert path.relative_to(place).as_posix() in mentioned(place), path


def test_gc_takes_them_with_what_they_were_made_from(root):
    root.refs.set("captions/photos", root.datasets["photos"].ref)
    gone = {made.kind for made in plan_gc(root.store, history=1, grace=NOW).artifacts}
    assert gone == {"captions", "caption_set", "embeddings", "model"}
    words = add_captions(root, "other", "photos", make_spec("other", "Another prompt for {region}."))
    for name in root.refs.names():
        root.refs.set(name, words.inputs["captions/0"])
    plan = plan_gc(root.store, history=1, grace=NOW)
    assert {made.kind for made in plan.artifacts} >= {"dataset", "embeddings"}
    assert [made.inputs["shard"].key for made in plan.artifacts if made.kind == "latents"] == [
        shard.key for shard in root.shards["photos"] if shard.params["prefix"] == "1"
    ]


def test_a_takedown_erases_the_latents_that_hold_the_image(root):
    trained = {key for made in root.store.list("latents") for key in _images(root, made)}
    image = next(sha(draw(number)) for number in range(12) if sha(draw(number)) in trained)
    erased = holders(root, image)
    assert len(erased) == 1
    index = open_index(root.store.backend.url)
    plan = plan_takedown(index, root.store, [image])
    assert {row["key"] for row in plan.derived if row["kind"] == "latents"} == erased
    record = run_takedown(index, root.store, plan, "asked for", "Ada")
    index.close()
    told = json.loads(root.store.read(record, "record.json"))["erased"]
    assert {one["key"] for one in told if one["kind"] == "latents"} == erased
    assert not holders(root, image) and len(live(root)["latents"]) == 1
    folder = root.store.backend.local_path(f"artifacts/latents/{next(iter(erased))}")
    assert not [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert verify(root.store.backend).ok


def _images(root, made):
    return read_table(root.store.read(made, "latents.parquet"), LATENTS).column("image_sha256").to_pylist()


def test_a_test_image_has_no_latents(root):
    trained = {key for made in root.store.list("latents") for key in _images(root, made)}
    assert 0 < len(trained) < 12
