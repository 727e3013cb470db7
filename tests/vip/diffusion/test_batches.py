import itertools
from pathlib import Path

import pytest
import torch

from schemas.errors import VipError
from schemas.region import BrushRegion, CentreRegion, SidesRegion
from schemas.train_config import TrainConfig
from tests.vip.diffusion.data import VIEW, write_shards
from vip.diffusion.batch import Shape
from vip.diffusion.batches import Batches, load_batches
from vip.diffusion.census import load_shard, take_census
from vip.regions.mask import render_mask

SHAPE = Shape(4, 8, 8, 3, 1000)
BANK = (CentreRegion(), SidesRegion(left=0.5), BrushRegion())


def config(**changes):
    return TrainConfig(**{"view": VIEW, "batch": 4, "steps": 20, **changes})


def batches(shards, made, count, workers=0, **options):
    stream = Batches(shards, take_census(shards, made), made, SHAPE, **options)
    return list(itertools.islice(load_batches(stream, workers), count))


def same(one, two):
    return one.keys == two.keys and one.prompts == two.prompts and torch.equal(one.noise, two.noise) and torch.equal(
        one.pixels, two.pixels
    ) and torch.equal(one.masks, two.masks) and torch.equal(one.timesteps, two.timesteps)  # fmt: skip


def test_workers_and_a_late_start_change_nothing(tmp_path):
    shards, made = write_shards(tmp_path, images=11), config()
    plain = batches(shards, made, 6)
    assert all(map(same, plain, batches(shards, made, 6, workers=2)))
    assert all(map(same, plain[2:], batches(shards, made, 4, workers=2, start=8)))


def test_processes_see_every_sample_once_an_epoch_and_what_one_process_would_see(tmp_path):
    shards = write_shards(tmp_path, images=12)
    ranks = [batches(shards, config(batch=2), 3, rank=rank, world=2) for rank in (0, 1)]
    single = batches(shards, config(batch=4), 3)
    both = [key for pair in zip(*ranks, strict=True) for batch in pair for key in batch.keys]
    assert both == [key for batch in single for key in batch.keys]
    assert len(set(both)) == len(both) == 12
    assert torch.equal(torch.cat([ranks[0][0].noise, ranks[1][0].noise]), single[0].noise)


def test_a_mask_never_meets_a_caption_of_another_geometry(tmp_path):
    shards = write_shards(tmp_path, regions=BANK)
    made = config(regime="glt", dropout=0.0, half_dropout=0.0)
    captions = {
        (example.image_sha256, caption.region): caption
        for shard in shards
        for example in load_shard(shard, made)[0]
        for caption in example.captions
    }
    kinds = set()
    for batch in batches(shards, made, 20):
        for key, mask, prompt in zip(batch.keys, batch.masks, batch.prompts, strict=True):
            caption = captions[key]
            assert prompt.total == caption.total
            region = next(kind for kind in BANK if key[1].startswith(kind.kind))
            if isinstance(region, BrushRegion):
                region = region.model_copy(update={"seed": int(key[1].rpartition("-s")[2])})
            assert torch.equal(mask[0], torch.tensor(render_mask(region, VIEW)).float())
            kinds.add(region.kind)
    assert kinds == {"centre", "sides", "brush"}


def test_weights_of_the_bank_decide_which_region_is_drawn(tmp_path):
    shards = write_shards(tmp_path, regions=BANK)
    made = config(regime="glt", regions={"centre-*": 3.0, "sides-*": 1.0})
    drawn = [key[1] for batch in batches(shards, made, 60) for key in batch.keys]
    assert sum(region.startswith("centre") for region in drawn) / len(drawn) == pytest.approx(0.75, abs=0.08)
    assert not any(region.startswith("brush") for region in drawn)


def test_caption_dropout_leaves_out_all_or_one_half(tmp_path):
    shards, made = write_shards(tmp_path), config(dropout=0.3, half_dropout=0.4)
    prompts = [prompt for batch in batches(shards, made, 150) for prompt in batch.prompts]
    empty = sum(prompt.total == "Center:; Surrounding:" for prompt in prompts) / len(prompts)
    no_centre = sum(prompt.center == "Center:" != prompt.total for prompt in prompts) / len(prompts) - empty
    no_surrounding = sum(prompt.surrounding == "Surrounding:" for prompt in prompts) / len(prompts) - empty
    assert empty == pytest.approx(0.3, abs=0.06)
    assert no_centre == pytest.approx(0.14, abs=0.05) and no_surrounding == pytest.approx(0.14, abs=0.05)
    assert all(("Center: " in prompt.total) == (prompt.center != "Center:") for prompt in prompts)


def test_the_test_split_is_never_trained_on(tmp_path):
    shards = write_shards(tmp_path, images=12, test=(0, 1, 2, 3))
    assert sum(take_census(shards, config()).counts) == 8


@pytest.mark.parametrize(("missing", "usable"), [("drop", 9), ("unconditional", 12)])
def test_images_without_a_caption_are_counted_and_treated_as_asked(tmp_path, missing, usable):
    shards = write_shards(tmp_path, images=12, skip=(1, 4, 7))
    made = config(missing_caption=missing, dropout=0.0, half_dropout=0.0)
    census = take_census(shards, made)
    assert (sum(census.counts), census.missing, census.pairs) == (usable, 3, 9)
    prompts = [prompt for batch in batches(shards, made, usable // 3) for prompt in batch.prompts]
    assert sum(prompt.total == "Center:; Surrounding:" for prompt in prompts[:usable]) == usable - 9


def test_a_missing_caption_can_be_an_error(tmp_path):
    with pytest.raises(VipError, match="has no 32x32-centre caption"):
        take_census(write_shards(tmp_path, skip=(1,)), config(missing_caption="error"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view": {"width": 64, "height": 64}}, "no captions of view 64x64-centre; .*32x32-centre centre-0.5"),
        ({"regime": "sft"}, "sft trains on one region"),
        ({"regions": {"file-*": 1.0}}, "no captions of view"),
        ({"regime": "glt", "regions": {"centre-*": 1.0, "file-*": 1.0}}, "no caption has a region like file-"),
        ({"regime": "glt", "datasets": {"other": 1.0}}, "dataset other is not among the data; name one of: images"),
    ],
)
def test_data_that_do_not_suit_the_config_are_refused(tmp_path, changes, message):
    with pytest.raises(VipError, match=message):
        take_census(write_shards(tmp_path, regions=BANK), config(**changes))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_not_replaced(tmp_path, workers):
    shards = write_shards(tmp_path, images=4, shards=1)
    data = bytearray(Path(shards[0].tar).read_bytes())
    for place in range(512, 700):
        data[place] = 0
    Path(shards[0].tar).write_bytes(data)
    with pytest.raises(VipError, match=r"^image [0-9a-f]{64} in \S+ cannot be read: [^\n]*; run `vip audit verify`$"):
        batches(shards, config(), 2, workers)


def test_a_mixture_counts_the_datasets_that_it_names_and_asks_something_of_each(tmp_path):
    shards = write_shards(tmp_path, images=6, dataset="full") + write_shards(
        tmp_path, images=4, dataset="other", regions=BANK, seed=1, skip=(1,)
    )
    mixed = {"regime": "glt", "datasets": {"full": 1.0}}
    census = take_census(shards, config(**mixed))
    assert (census.counts, census.pairs, census.missing, list(census.regions)) == ((3, 3, 0, 0), 6, 0, ["centre-0.5"])
    assert sum(take_census(shards, config(datasets={"full": 1.0})).counts) == 6  # sft: one dataset, one region
    take_census(shards, config(**mixed, missing_caption="error"))  # what is left out may lack captions
    empty = write_shards(tmp_path, images=4, dataset="empty", seed=2, skip=range(4))
    for datasets in ({"full": 9.0, "empty": 1.0}, {"empty": 1.0}):
        with pytest.raises(VipError, match=r"dataset empty has no captions of view 32x32-centre; .* none at all"):
            take_census(shards + empty, config(regime="glt", datasets=datasets))
