from itertools import permutations
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.promotion import PromotionRules
from schemas.train_config import TrainConfig
from schemas.train_run import TrainRun
from tests.vip.diffusion.data import VIEW, write_base, write_shards
from vip.diffusion.plan import plan

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


def test_there_are_configs_for_real_use():
    runs = [TrainRun.model_validate(yaml.safe_load(path.read_text())) for path in CONFIGS]
    assert {"scenery", "building-facades", "wikiart"} <= {data.name for run in runs for data in run.data}
    assert {run.train.regime for run in runs} == {"sft", "glt"} and {run.train.view.width for run in runs} >= {256, 512}


def test_in_which_order_patterns_of_regions_are_written_changes_no_weight_and_no_key():
    weights = {"*": 1.0, "centre-*": 3.0, "centre-0.5": 5.0}
    runs = [TrainConfig(regime="glt", regions=dict(order)) for order in permutations(weights.items())]
    told = [[run.region_weight(region) for region in ("centre-0.5", "centre-0.25", "brush-0.5")] for run in runs]
    assert told == [[5.0, 3.0, 1.0]] * len(runs)
    assert len({fingerprint(run.params()) for run in runs}) == len({run.state_key() for run in runs}) == 1


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_what_no_key_can_hold_is_no_setting(value):
    for setting in ("lr", "weight_decay", "clip", "min_snr"):
        with pytest.raises(ValidationError, match=setting):
            TrainConfig(**{setting: float(value)})
    with pytest.raises(ValidationError, match="kid"):
        PromotionRules(margins={"kid": float(value)})


def test_precision_no_needs_no_quotes():
    (bare, quoted) = (TrainConfig.model_validate(yaml.safe_load(text)) for text in ("precision: no", "precision: 'no'"))
    assert bare == quoted == TrainConfig(precision="no")


def test_a_dataset_is_trained_on_with_one_set_of_captions():
    data = [{"dataset": "scenes", "captions": "captions/joint"}, {"dataset": "dataset/scenes", "captions": "split"}]
    with pytest.raises(ValidationError, match="dataset scenes is named twice"):
        TrainRun(name="both", data=data)


def test_the_plan_of_a_real_config_needs_no_weights():
    path = next(path for path in CONFIGS if "scenery-256" in path.name)
    told = plan(TrainRun.model_validate(yaml.safe_load(path.read_text())).train)
    assert told.unet_parameters == pytest.approx(859.5e6, rel=1e-3)
    assert told.branch_parameters == pytest.approx(88e6, rel=0.01)
    assert told.levels == ((32, 32), (16, 16), (8, 8), (4, 4))
    assert told.trainable_parameters == told.unet_parameters + told.branch_parameters
    assert 10e9 < told.memory_bytes < 25e9


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_that_is_shipped_can_be_checked(path):
    run = TrainRun.model_validate(yaml.safe_load(path.read_text())).train
    told = plan(run)
    assert told.steps == run.steps and told.samples == run.steps * run.batch * run.accumulation * run.processes
    assert 0 < told.trainable_parameters <= told.unet_parameters + told.branch_parameters
    assert told.memory_bytes > 4 * (told.unet_parameters + told.branch_parameters + told.frozen_parameters)


def test_the_plan_counts_the_data(tmp_path):
    shards = write_shards(tmp_path / "data", images=12, skip=(1,))
    told = plan(TrainConfig(view=VIEW, steps=20, batch=11), str(write_base(tmp_path / "base")), shards)
    assert (told.images, told.missing_captions, told.pairs, told.epochs) == (11, 1, 11, 20.0)
    many = plan(TrainConfig(view=VIEW, steps=20, batch=11, processes=8), str(tmp_path / "base"), shards)
    assert (many.samples, many.epochs) == (8 * told.samples, 160.0)
    assert told.regions == {"centre-0.5": 11} and told.frozen_parameters > 10_000


def test_a_view_that_the_vae_cannot_take_is_refused():
    config = TrainConfig(base="runwayml/stable-diffusion-inpainting", view={"width": 260, "height": 256})
    with pytest.raises(VipError, match=r"260x256 is not divisible by 8.*use 256x256"):
        plan(config)


def test_an_unknown_base_says_which_are_known():
    with pytest.raises(VipError, match="stable-diffusion-inpainting"):
        plan(TrainConfig(base="somebody/something"))


@pytest.mark.parametrize(
    ("part", "text"),
    [("unet", "{bad"), ("unet", "[]"), ("vae", ""), ("vae", "{}"), ("vae", '{"block_out_channels": 3}')],
)
def test_a_base_with_a_broken_config_is_said_in_one_line(tmp_path, part, text):
    base = write_base(tmp_path / "base")
    (base / part / "config.json").write_text(text)
    with pytest.raises(VipError, match=rf"{part}/config\.json"):
        plan(TrainConfig(base=str(base)))
