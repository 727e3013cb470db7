"""`vip train` on a small base: the plan with its data, and a training whose pictures and texts are precomputed."""

import io
import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

import flows.train
from bench._lineage_root import Synthetic, add_captions, add_dataset, make_spec
from flows.cli.main import group
from flows.precompute import precompute
from flows.sources import Source, parts_of
from schemas.errors import VipError
from schemas.train_config import TrainConfig
from storage.store import ArtifactStore
from tests.vip.diffusion.data import write_base
from vip.lineage.verify import verify


def picture(number):
    data = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (4, 5, 3), np.uint8)
    Image.fromarray(pixels).resize((80, 64)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    made = Synthetic(ArtifactStore(tmp_path_factory.mktemp("trained") / "root"))
    add_dataset(made, "scenes", {f"{number}.png": picture(number) for number in range(20)})
    add_captions(made, "scenes", "scenes", make_spec())
    add_dataset(made, "uncaptioned", {f"{number}.png": picture(number) for number in range(30, 34)})
    add_dataset(made, "divided", {f"{number}.png": picture(number) for number in range(20)}, bits=2)
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


def write_config(folder, base, dataset="scenes", **train):
    path = folder / "train.yaml"
    settings = {"base": str(base), "steps": 2, "batch": 2, "warmup": 0, **train}
    path.write_text(yaml.safe_dump({"name": "small", "data": [{"dataset": dataset}], "train": settings}))
    return path


def check(path, root, expect=0):
    done = CliRunner().invoke(group, ["train", "--config", str(path), "--check", "--root", str(root)])
    assert done.exit_code == expect, done.exception
    return json.loads(done.stdout) if expect == 0 else str(done.exception)  # what `main` prints on one line


def test_the_plan_counts_the_data_that_the_root_has(tmp_path, root, base):
    place = root.store.backend.url
    told = check(write_config(tmp_path, base), place)
    train = sum(shard["train"] for shard in splits(root, "scenes"))
    assert (told["images"], told["pairs"], told["missing_captions"]) == (train, train, 0)
    assert check(write_config(tmp_path, base, "elsewhere"), place)["images"] is None
    assert check(write_config(tmp_path, base), tmp_path / "no-root")["images"] is None
    assert not (tmp_path / "no-root").exists()


def splits(root, name):
    import pyarrow.parquet as pq

    for shard in root.shards[name]:
        rows = pq.read_table(io.BytesIO(root.store.read(shard, "samples.parquet"))).column("split").to_pylist()
        yield {split: rows.count(split) for split in ("train", "test")}


@pytest.mark.parametrize(
    ("dataset", "train", "message"),
    [
        ("uncaptioned", {}, "uncaptioned"),
        ("scenes", {"view": {"width": 128, "height": 128}}, "no captions of view 128x128-centre"),
        ("scenes", {"regions": {"sides-*": 1.0}}, "no captions of view 64x64-centre and regions sides-*"),
        ("scenes", {"view": {"width": 66, "height": 64}}, "66x64 is not divisible by 4"),
        ("scenes", {"bach": 3}, "train.bach is no known setting"),
    ],
)
def test_what_cannot_work_ends_at_once_with_one_line(tmp_path, root, base, dataset, train, message):
    said = check(write_config(tmp_path, base, dataset, **train), root.store.backend.url, expect=1)
    assert "\n" not in said and message in said


def test_captions_of_a_dataset_that_is_divided_in_another_way_are_refused(root):
    source = Source("scenes", root.datasets["divided"].ref, root.sets["scenes"].ref)
    with pytest.raises(VipError, match="run `vip caption scenes` again"):
        parts_of(root.store, [source])


@pytest.mark.slow
def test_a_training_makes_what_it_wants_precomputed_and_the_next_one_finds_it(root, base, monkeypatch):
    store, place = root.store, root.store.backend.url
    monkeypatch.setattr(flows.train, "precompute", precompute.fn)  # without a Prefect server; the processes are real
    sources = [Source("scenes", root.datasets["scenes"].ref, root.sets["scenes"].ref)]

    def fit(**changes):
        small = {"base": str(base), "steps": 2, "batch": 2, "warmup": 0}
        return flows.train.fit.fn(place, sources, TrainConfig(**small | changes))

    asked = {"precompute": ("latents", "embeddings")}
    first = fit(**asked)
    made = {kind: {one.key for one in store.list(kind)} for kind in asked["precompute"]}
    assert {kind: len(keys) for kind, keys in made.items()} == {"latents": 2, "embeddings": 2}
    assert store.require(first).stats["precomputed"] == list(asked["precompute"])
    assert fit() == first  # the same run without it is the same run: its checkpoint is found
    assert fit(**asked, seed=1) != first
    assert {kind: {one.key for one in store.list(kind)} for kind in made} == made
    assert verify(store.backend).ok
