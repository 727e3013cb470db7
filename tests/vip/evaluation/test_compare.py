"""Comparison in pairs: verdicts that an interval allows, and only between the same exams."""

import numpy as np
import pytest

from schemas.errors import VipError
from schemas.evaluate_config import EvaluateConfig
from schemas.promotion import PromotionRules
from schemas.tables import COMPARISON
from storage.store import ArtifactStore
from storage.tables import write_table
from tests.vip.evaluation.world import make_checkpoint, make_world
from vip.evaluation.compare import compare, crossing, verdict_of
from vip.evaluation.evaluate import evaluate
from vip.evaluation.kid import kernel_distance, kernel_distance_gain
from vip.evaluation.promote import decide, judge_promotion


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.1, 0.3, 0.05, "better"),
        (-0.01, 0.3, 0.05, "not worse"),
        (-0.04, -0.01, 0.05, "not worse"),  # worse, but by less than the margin
        (-0.3, -0.1, 0.05, "worse"),
        (-0.3, -0.01, 0.05, "worse"),
        (-0.3, 0.3, 0.05, "cannot tell"),
        (-0.01, 0.3, None, "cannot tell"),
        (None, None, 0.05, "cannot tell"),
    ],
)
def test_verdicts(low, high, margin, verdict):
    assert verdict_of(low, high, margin) == verdict


def test_the_gain_in_kid_is_the_difference_and_finds_what_is_nearer():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(120, 8))
    near, far = real + rng.normal(size=real.shape) * 0.3, real + 0.7
    gain = kernel_distance_gain(real, far, near, 200, 0.95, 1)
    ours = [kernel_distance(real, made, 0, 0.95, 1).value for made in (far, near)]
    assert gain.value == pytest.approx(ours[0] - ours[1])
    assert 0 < gain.low < gain.value < gain.high


def test_the_same_checkpoint_is_not_worse_than_itself_and_another_exam_is_refused(tmp_path):
    store = ArtifactStore(tmp_path / "root")
    dataset, prompts, checkpoint = make_world(store, tmp_path / "pictures", count=14)
    config = EvaluateConfig(settings=("oracle", "control:noise"), steps=1, images=4, resamples=100, floor=False)
    first = evaluate(store, config, checkpoint, dataset, prompts)
    second = evaluate(store, config, make_checkpoint(store, seed=2), dataset, prompts)
    same = {(row["metric"], row["setting"]): row for row in compare(store, first, first)}
    assert same["psnr_known_unpasted", "oracle"]["verdict"] == "not worse"
    assert same["kid", "oracle"]["verdict"] == "not worse" and same["kid", "oracle"]["gain"] == 0
    assert same["frechet_distance", "oracle"]["verdict"] == "cannot tell"
    rows = compare(store, first, second)
    assert write_table(tmp_path / "comparison.parquet", rows, COMPARISON) == len(rows)
    noise = next(row for row in rows if (row["metric"], row["setting"]) == ("kid", "control:noise"))
    assert noise["gain"] == 0  # noise is no model's, and is shared
    rules = PromotionRules(metrics=("kid", "seam_error"))
    alone = judge_promotion(store, first, None, rules)
    assert alone.stats["promoted"] and alone.stats["reasons"] == ["nothing was promoted before"]
    assert judge_promotion(store, first, first, rules).stats["promoted"]
    back = judge_promotion(store, first, first, rules, rolled_back=True).stats
    assert not back["promoted"] and "rolled back" in back["reasons"][0]
    crossed = crossing(store, [first, second], "frechet_distance")
    models = {row["checkpoint"] for row in crossed}
    assert models == {made.inputs["checkpoint"].digest for made in (first, second)}
    other = evaluate(store, config.model_copy(update={"seed": 1}), checkpoint, dataset, prompts)
    with pytest.raises(VipError, match="different exams: seed"):
        compare(store, first, other)


def _row(metric, verdict):
    return {
        "metric": metric,
        "setting": "oracle",
        "first": 0.1,
        "second": 0.2,
        "low": -0.3,
        "high": 0.1,
        "margin": 0.02,
        "n": 9,
        "verdict": verdict,
    }


@pytest.mark.parametrize(
    ("verdicts", "promoted"),
    [
        (("better", "not worse"), True),
        (("better", "cannot tell"), False),
        (("not worse", "worse"), False),
        (("better", None), False),
    ],
)
def test_every_rule_must_be_kept_and_has_a_reason(verdicts, promoted):
    rows = [_row(name, told) for name, told in zip(("kid", "seam_error"), verdicts, strict=True) if told]
    found, reasons = decide(rows, PromotionRules(metrics=("kid", "seam_error")))
    assert found is promoted
    assert [reason.split()[0] for reason in reasons] == ["kid", "seam_error"]
    assert (verdicts[1] or "not measured") in reasons[1]
