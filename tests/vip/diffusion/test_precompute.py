"""What is precomputed is what a run computes for itself, is found by its key, and is read instead of the images."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.region import BrushRegion, CentreRegion, FileRegion, SidesRegion
from schemas.tables import CAPTIONS
from schemas.training import PrecomputeJob
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.vip.diffusion.data import VIEW, publish, write_base, write_shards
from tests.vip.diffusion.test_train import config, equal
from vip.diffusion.batch import Shape
from vip.diffusion.batches import Batches
from vip.diffusion.census import take_census
from vip.diffusion.precompute import place, precompute, recipes
from vip.diffusion.train import train
from vip.lineage.verify import verify
from vip.machine import machine
from vip.regions.mask import render_mask

BANK = (CentreRegion(), SidesRegion(left=0.5), BrushRegion())
BOTH = ("latents", "embeddings")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


def make_job(root, base, pairs, made):
    return PrecomputeJob(
        root=str(root),
        run_id="test",
        base="tiny",
        base_dir=str(base),
        config=made,
        shards=tuple(pairs),
        progress=str(root / "progress"),
    )


def encoded(root, base, pairs, made, **replaced):
    """The data of a run, with the folders of what is precomputed."""
    store = ArtifactStore(root)
    data = []
    for (shard, captions), found in zip(pairs, recipes(store, "tiny", base, pairs, made), strict=True):
        folders = {what: str(store.local(store.find(recipe))) for what, recipe in found.items()}
        data.append(place(store, shard, captions).model_copy(update=folders | replaced))
    return data


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        (BOTH, {"workers": 2, "accumulation": 2}),
        (("latents",), {"missing_caption": "unconditional"}),
        (("embeddings",), {"regions": {"centre-*": 2.0, "brush-*": 1.0}}),
        (BOTH, {"cache_mb": 0}),
    ],
)
def test_the_trained_weights_are_those_of_a_run_that_encodes_for_itself(tmp_path, base, what, changes):
    common = {"regime": "glt", "dropout": 0.2, "half_dropout": 0.4, **changes}
    shards = write_shards(tmp_path / "data", regions=BANK, skip=(1, 4))
    pairs = publish(ArtifactStore(tmp_path / "root"), shards, BANK)
    made = config(precompute=what, **common)
    precompute(make_job(tmp_path / "root", base, pairs, made))
    train(config(**common | {"cache_mb": 64}), base, shards, tmp_path / "a", tmp_path / "alone")
    # Without its images a run can only have read the latents; one image lacks a caption and any region of its own.
    gone = {"tar": str(tmp_path / "gone.tar")} if "latents" in what and "missing_caption" not in changes else {}
    train(made, base, encoded(tmp_path / "root", base, pairs, made, **gone), tmp_path / "b", tmp_path / "read")
    assert equal(tmp_path / "alone", tmp_path / "read")
    assert (tmp_path / "alone/losses.parquet").read_bytes() == (tmp_path / "read/losses.parquet").read_bytes()


def test_what_is_there_is_found_and_other_captions_cost_no_picture(tmp_path, base):
    store, seen = ArtifactStore(tmp_path / "root"), []
    shards = write_shards(tmp_path / "data", regions=BANK)
    pairs = publish(store, shards, BANK)
    made = config(precompute=BOTH)
    precompute(make_job(tmp_path / "root", base, pairs, made), seen.append)
    assert (seen[-1].done, seen[-1].total) == (4, 4)
    precompute(make_job(tmp_path / "root", base, pairs, made.model_copy(update={"lr": 1.0, "seed": 9})), seen.append)
    assert len(seen) == 1  # nothing was missing, so nothing was said
    words = write_shards(tmp_path / "other", regions=BANK, skip=(3,))
    again = [(one, two) for (one, _), (_, two) in zip(pairs, publish(store, words, BANK, spec="more"), strict=True)]
    precompute(make_job(tmp_path / "root", base, again, made), seen.append)
    assert seen[-1].total == 1  # the texts of the one shard whose captions changed
    assert [one.stats["images"] for one in store.list("latents")] == [6, 6]
    assert len(list(store.list("embeddings"))) == 3
    assert verify(store.backend).ok


def test_only_the_training_split_is_encoded_and_only_the_regions_that_are_wanted(tmp_path, base):
    store = ArtifactStore(tmp_path / "root")
    pairs = publish(store, write_shards(tmp_path / "data", regions=BANK, shards=1, test=(0, 1, 2)), BANK)
    made = config(precompute=BOTH, regime="glt", regions={"brush-*": 1.0})
    precompute(make_job(tmp_path / "root", base, pairs, made))
    (latents,), (embeddings,) = store.list("latents"), store.list("embeddings")
    assert (latents.stats["images"], latents.stats["pictures"]) == (9, 18)
    assert latents.stats["machine"] == embeddings.stats["machine"] == machine()
    # Of nine captions the whole and its halves, each half as a whole of its own, and once the three empty ones. The
    # centres are six words, so that three of them come twice, alone and in a whole.
    assert embeddings.stats["texts"] == 9 * (3 + 2) + 3 - 2 * 3


def test_images_without_a_caption_change_no_embeddings(tmp_path, base):
    made = []
    for how in ("drop", "unconditional"):
        store = ArtifactStore(tmp_path / how)
        pairs = publish(store, write_shards(tmp_path / f"{how}-data", shards=1, skip=(0, 3)))
        precompute(make_job(tmp_path / how, base, pairs, config(precompute=("embeddings",), missing_caption=how)))
        made += store.list("embeddings")
    assert made[0].ref == made[1].ref


def test_captions_of_another_view_ask_for_nothing(tmp_path, base):
    store = ArtifactStore(tmp_path / "root")
    pairs = publish(store, write_shards(tmp_path / "data", shards=1))
    made = config(precompute=BOTH, view={"width": 64, "height": 64})
    assert recipes(store, "tiny", base, pairs, made) == [{}]


def test_a_damaged_file_is_named(tmp_path, base):
    store = ArtifactStore(tmp_path / "root")
    pairs = publish(store, write_shards(tmp_path / "data"))
    made = config(precompute=BOTH)
    precompute(make_job(tmp_path / "root", base, pairs, made))
    data = encoded(tmp_path / "root", base, pairs, made)
    for path in (tmp_path / "root" / "artifacts" / "latents").rglob("part-*"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(VipError, match=r"part-00000\.safetensors cannot be read"):
        train(made, base, data, tmp_path / "s", tmp_path / "out")
    assert sum("part-00000" in problem.file for problem in verify(store.backend).problems) == 2


@pytest.mark.slow
def test_a_killed_run_goes_on_behind_what_it_had_published(tmp_path, base):
    store = ArtifactStore(tmp_path / "root")
    pairs = publish(store, write_shards(tmp_path / "data", images=240, shards=6))
    job = make_job(tmp_path / "root", base, pairs, config(precompute=BOTH))
    (tmp_path / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-m", "vip.diffusion.precompute", "--job", str(tmp_path / "job.json")]
    process = subprocess.Popen(command, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    published, deadline = tmp_path / "root" / "published", time.monotonic() + 200
    while sum(1 for kind in BOTH for _ in published.glob(f"{kind}/*.json")) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {one.key: one.run.finished for kind in BOTH for one in store.list(kind)}
    assert 2 <= len(before) < 12
    seen = []
    precompute(job, seen.append)
    after = {one.key: one.run.finished for kind in BOTH for one in store.list(kind)}
    assert seen[-1].total == 12 - len(before) and len(after) == 12
    assert all(after[key] == finished for key, finished in before.items())
    assert verify(store.backend).ok


def test_the_rows_are_plain_safetensors_of_the_stated_shape(tmp_path, base):
    store = ArtifactStore(tmp_path / "root")
    pairs = publish(store, write_shards(tmp_path / "data", shards=1))
    precompute(make_job(tmp_path / "root", base, pairs, config(precompute=BOTH)))
    for kind, shape in (("latents", (24, 8, 8, 8)), ("embeddings", (None, 77, 24))):
        (made,) = store.list(kind)
        assert set(made.outputs) == {f"{kind}.parquet", "part-00000.safetensors"}
        rows = load_file(store.local(made) / "part-00000.safetensors")["rows"]
        assert tuple(rows.shape[1:]) == shape[1:] and rows.shape[0] == made.outputs[f"{kind}.parquet"].rows
        assert shape[0] in (None, rows.shape[0])


def test_a_mask_file_is_in_no_key_and_is_found_where_the_captions_say(tmp_path, base):
    store, file = ArtifactStore(tmp_path / "root"), tmp_path / "mask.png"
    Image.fromarray(np.repeat([[0, 255]], [16, 16], axis=1).repeat(32, axis=0).astype(np.uint8)).save(file)
    region = FileRegion(path=str(file), sha256=sha256_hex(file.read_bytes()))
    pairs = publish(store, write_shards(tmp_path / "data", regions=(region,)), (region,))
    precompute(make_job(tmp_path / "root", base, pairs, config(precompute=("latents",))))
    made = list(store.list("latents"))
    assert [one.stats["images"] for one in made] == [6, 6] and str(file) not in str([one.params for one in made])
    data = [place(store, *pair) for pair in pairs]
    assert str(file) not in str([read_table(Path(one.captions), CAPTIONS).to_pylist() for one in data])
    batch = next(iter(Batches(data, take_census(data, config()), config(), Shape(4, 8, 8, 3, 1000))))
    assert torch.equal(batch.masks[0, 0], torch.from_numpy(render_mask(region, VIEW)).float())
