"""The claim's harness: every arm from the same base, paired verdicts, a page, and nothing done twice."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flows.cli.claim import command
from schemas.bank import Bank
from schemas.claim_config import ABLATIONS, ClaimConfig
from schemas.errors import VipError
from schemas.evaluate_config import EvaluateConfig
from schemas.manifest import Recipe
from schemas.region import CentreRegion, View
from schemas.train_config import TrainConfig
from schemas.training import ShardCaptions
from storage.models import model_artifact
from storage.store import ArtifactStore
from tests.vip.evaluation.world import draw_pictures, make_captions, make_dataset, make_pipeline
from vip.claim.arms import fresh_checkpoint, train_config
from vip.claim.cost import costs_of
from vip.claim.page import write_page
from vip.claim.run import run_claim
from vip.claim.verdicts import verdict_lines
from vip.diffusion.levels import plan_levels
from vip.outpaint.load import load_outpainter, pipeline_folder
from vip.regions.mask import render_mask

CONFIG = ClaimConfig(
    arms=("base", "plain", "masked", "cross_attention"),
    seeds=2,
    train=TrainConfig(steps=2, warmup=1, batch=2, trainable="whole", dropout=0.0, min_snr=None, ema=0.0),
    evaluate=EvaluateConfig(settings=("oracle",), steps=1, images=3, resamples=100, floor=False),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    from vip.diffusion.train import train

    folder = tmp_path_factory.mktemp("claim")
    store = ArtifactStore(folder / "root")
    dataset = make_dataset(store, draw_pictures(folder / "pictures", 16))
    captions = make_captions(store, dataset, Bank())
    make_pipeline(plain=True).save_pretrained(str(folder / "base"))
    base = model_artifact(store, str(folder / "base"), folder / "base")
    trained = []

    def fit(config, spec):
        assert spec == "nano-joint"

        def build(out):
            trained.append(config)
            shards = []
            for role, ref in dataset.inputs.items():
                shard = store.local(store.require(ref))
                prefix = role.removeprefix("shard/")
                rows = store.local(store.require(captions.inputs[f"captions/{prefix}"]))
                paths = (shard / "samples.tar", shard / "samples.parquet", rows / "captions.parquet")
                shards.append(ShardCaptions(**dict(zip(("tar", "samples", "captions"), map(str, paths), strict=True))))
            result = train(config, folder / "base", shards, folder / "scratch", out)
            return result.model_dump(mode="json")

        recipe = Recipe(kind="checkpoint", stage="train", inputs={"c": captions.ref}, params=config.params())
        return store.build(recipe, build)[0]

    def run():
        return run_claim(store, CONFIG, base, folder / "base", dataset, {"oracle": captions}, fit, lambda *_: None)

    return store, run(), run, trained, folder, base


def test_every_arm_is_examined_and_the_second_time_costs_nothing(done):
    _, outcomes, run, trained, *_ = done
    assert [(one.arm, one.seed) for one in outcomes] == [
        ("base", 0),
        ("plain", 0),
        ("masked", 0),
        ("cross_attention", 0),
        ("plain", 1),
        ("cross_attention", 1),
    ]
    count = len(trained)
    assert count == 4
    assert run() == outcomes and len(trained) == count


def test_the_plain_arm_never_listens_to_its_branches(done):
    _, outcomes, *_ = done
    plain = next(one for one in outcomes if one.arm == "plain")
    ours = next(one for one in outcomes if one.arm == "cross_attention")
    assert max(abs(value) for value in plain.checkpoint.stats["a"].values()) < 1e-20
    assert max(abs(value) for value in ours.checkpoint.stats["a"].values()) > 1e-4
    assert train_config(CONFIG, "plain", 3).seed == 3


def test_untrained_arms_differ_in_the_fusion_weight_only(done):
    from vip.diffusion.pipeline import VIPOutpaintPipeline

    store, _, _, _, folder, base = done
    for a in (0.0, 1.0):
        made = store.local(fresh_checkpoint(store, base, folder / "base", a))
        pipeline = VIPOutpaintPipeline.from_pretrained(str(made))
        assert all(torch.all(weight == a) for _, weight in pipeline.control.fusion())


def test_the_page_says_what_came_out(done, tmp_path):
    store, outcomes, _, _, folder, _ = done
    lines = verdict_lines(store, CONFIG, outcomes)
    seam = {line.arm: line for line in lines if line.metric == "seam_error"}
    assert len(seam["cross_attention"].values) == len(seam["cross_attention"].seed_gains) == 2
    assert len(seam["base"].values) == 1 and len(seam["base"].seed_gains) == 2
    assert seam["base"].gain == pytest.approx(np.mean(seam["base"].seed_gains))
    assert seam["plain"].verdict is None
    page = write_page(store, CONFIG, outcomes, folder / "base", tmp_path).read_text()
    assert "| cross_attention | C-T-S, whole cross-attention (the paper) |" in page
    costs = costs_of(CONFIG, folder / "base")
    assert f"| {costs['cross_attention'].parameters:,} |" in page
    assert "frechet_distance (efficientnet-lite0)" in page and (tmp_path / "claim-samples.png").exists()
    drawn = ElementTree.parse(tmp_path / "claim-gains.svg")
    assert "![gains](claim-gains.svg)" in page and len(drawn.findall(".//{*}circle[@class='mean']")) == sum(
        line.low is not None for line in lines
    )


@pytest.mark.parametrize("arm", CONFIG.arms)
def test_an_arm_costs_what_its_checkpoint_computes_at_the_view_of_the_exam(done, arm):
    store, outcomes, *_, folder, _ = done
    view = View(width=96, height=64)
    exam = EvaluateConfig(view=view, region=CentreRegion(keep=0.5))
    checkpoint = next(one.checkpoint for one in outcomes if one.arm == arm)
    pipeline = load_outpainter(store.local(checkpoint) / pipeline_folder(checkpoint))
    mask = torch.from_numpy(render_mask(exam.geometry[1], view))[None, None].float()
    sample, text = torch.zeros(1, 9, 16, 24), torch.zeros(1, 77, pipeline.unet.config["cross_attention_dim"])
    levels = plan_levels(mask, (16, 24), len(pipeline.unet.down_blocks))

    def flops(model, *inputs):
        # The counter does not know the kernel by which a CPU attends.
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            model(sample, 0, *inputs)
        return counter.get_total_flops()

    with_branches = flops(pipeline.controlled, text, text, text, levels)
    pipeline.control.detach(pipeline.unet)
    plain = flops(pipeline.unet, text)
    used = plain if arm in ("base", "plain") else with_branches
    # Only the paper's branches are more weights than the base has: the masked arm reads through the base's own.
    own = sum(weight.numel() for weight in pipeline.control.parameters()) if arm == "cross_attention" else 0
    cost = costs_of(CONFIG.model_copy(update={"evaluate": exam}), folder / "base")[arm]
    assert cost == (used, own, used / plain)
    assert with_branches > plain


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ("--arms", "cross_attention,glt"),
            "plain, which is not among them; add it to the arms, or give --against cross",
        ),
        (("--arms", "plain,glt,plain"), "an arm is named twice"),
        (("--arms", "plain,cross-attention"), "arms.1: Input should be 'base', 'plain',"),
        (("--against", "cross"), "against: Input should be 'base', 'plain',"),
        (("--preset", "nano-middle"), "preset 'nano-middle' is unknown; choose one of nano-centre"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(given, says, monkeypatch):
    monkeypatch.setattr("flows.run.local_run", lambda root: pytest.fail("something was begun"))
    with pytest.raises(VipError) as caught:
        command.main(list(given), standalone_mode=False)
    assert says in str(caught.value)


def test_an_ablation_changes_one_thing():
    whole = train_config(CONFIG, "cross_attention", 0).model_dump()
    changed = {
        arm: {name for name, value in train_config(CONFIG, arm, 0).model_dump().items() if value != whole[name]}
        for arm in ABLATIONS
    }
    assert changed == {
        "mask_nearest": {"mask_mode"},
        "a_slow": {"fusion_lr"},
        "a_fast": {"fusion_lr"},
        "no_dropout": {"half_dropout"},  # this test's config has no dropout of the whole text
        "split": set(),  # its captions are others
        "glt": {"regime", "regions"},
        "glt_long": {"regime", "regions", "steps"},  # the mixture, and its own mask as often
    }
