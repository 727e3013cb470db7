"""What no longer matches the present is found, with the reason, and the rest is left in peace."""

import pytest

from bench._lineage_root import add_captions, add_checkpoint, add_dataset
from bench._lineage_rows import make_spec, picture
from schemas.sharding import ShardSettings
from schemas.spec import ModelIdentity
from storage.models import model_digest
from storage.refs import Refs
from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import make_spec as spec_for
from tests.vip.captioning.helpers import make_tokenizer, run, write_images
from vip.captioning.specs import load_spec
from vip.lineage.index import open_index
from vip.lineage.stale import _present_revision, stale
from vip.sharding.build import shard_source


def reasons(root, **options):
    index = open_index(root.store.backend.url)
    found = stale(index, **options)
    index.close()
    return {(row["ref"], row["kind"], row["reason"]): row for row in found}


@pytest.fixture
def current(root, tmp_path, monkeypatch):
    """Captions by the built-in spec and the model as they are now."""
    weights = tmp_path / "captioner"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr("storage.models.nano_folder", lambda part: weights)
    _present_revision.cache_clear()
    nano = ModelIdentity(id="nano", revision=model_digest(weights))
    spec = load_spec("nano-joint").model_copy(update={"model": nano})
    add_captions(root, "now", "scenes", spec)
    yield spec
    _present_revision.cache_clear()


def test_what_is_current_is_not_stale(root, current):
    assert not [row for row in reasons(root) if row[0] == "captions/now"]


def test_another_prompt_or_model_makes_captions_stale(root, current):
    other = current.model_copy(
        update={"templates": {"joint": "Old words."}, "model": ModelIdentity(id="nano", revision="0" * 64)}
    )
    add_captions(root, "then", "scenes", other)
    found = reasons(root)
    assert "templates.joint" in found["captions/then", "captions", "prompt"]["detail"]
    assert found["captions/then", "captions", "prompt"]["rows"] == 12
    assert "was 0000000000000000" in found["captions/then", "captions", "model"]["detail"]


def test_captions_are_compared_with_a_spec_that_is_given(root, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: keywords\nstrategy: joint\nmodel: {id: nano}\ntemplates: {joint: New words.}\n")
    found = reasons(root, spec=str(file))
    assert "templates.joint" in found["captions/keywords", "captions", "prompt"]["detail"]


def test_an_older_dataset_makes_captions_and_checkpoints_stale(root):
    images = {f"scene-{number}.png": picture(number) for number in range(12)} | {"new.png": picture(100)}
    add_dataset(root, "scenes", images)
    add_captions(root, "keywords", "scenes", make_spec())
    found = reasons(root)
    assert "captions/keywords" in found["promoted", "checkpoint", "superseded"]["detail"]
    root.refs.set("promoted", add_checkpoint(root, "keywords", "scenes", seed=3).ref)
    assert ("promoted", "checkpoint", "superseded") not in reasons(root)


def test_a_dataset_of_other_splits_alone_makes_captions_stale(tmp_path):
    store, images = ArtifactStore(tmp_path / "root"), write_images(tmp_path / "images", 8)
    before = shard_source(store, str(images), ShardSettings(name="d", bits=1, test_share=0.0), workers=1)
    with serving(FakeServer()) as url:
        captions, _ = run(store, before, spec_for(make_tokenizer(tmp_path / "tokenizer")), [url], tmp_path / "scratch")
    Refs(store.backend).set("captions/d", captions.ref)
    shard_source(store, str(images), ShardSettings(name="d", bits=1, test_share=0.9), workers=1)
    index = open_index(store.backend.url)
    (found,) = [row for row in stale(index) if row["reason"] == "superseded"]
    index.close()
    assert found["detail"] == "dataset/d has 2 shards that it does not caption"


def test_a_stage_that_reads_answers_otherwise_makes_captions_stale(root, current, monkeypatch):
    monkeypatch.setattr("vip.captioning.project.STAGE_VERSION", 3)
    monkeypatch.setattr("vip.lineage.stale._STAGES", {"caption_shard": "vip.captioning.project"})
    found = reasons(root)
    assert found["captions/now", "captions", "stage version"]["artifacts"] == 2
