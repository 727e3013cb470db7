"""Comparison in pairs: verdicts that an interval allows, and only between the same exams."""

import numpy as np
import pytest

from flows.cli.result import show_crossing
from schemas.bank import Bank
from schemas.errors import VipError
from schemas.evaluate_config import EvaluateConfig
from schemas.evaluate_run import Crossed, EvaluateRun
from schemas.manifest import Recipe
from schemas.promotion import PromotionRules
from schemas.tables import COMPARISON, IMAGE_METRICS, METRICS
from storage.store import ArtifactStore
from storage.tables import write_table
from tests.vip.evaluation.world import make_captions, make_checkpoint, make_world
from vip.evaluation.compare import compare, crossing, verdict_of
from vip.evaluation.evaluate import evaluate
from vip.evaluation.exam import ALONGSIDE, read_exam
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


def test_checkpoints_and_prompt_sets_are_crossed_in_one_table_of_one_exam(tmp_path, capsys):
    store = ArtifactStore(tmp_path / "root")
    dataset, prompts, checkpoint = make_world(store, tmp_path / "pictures", count=14)
    config = EvaluateConfig(settings=("oracle",), steps=1, images=3, resamples=100, floor=False)
    gone = read_exam(store, config, dataset, prompts).items[0].image_sha256
    # A second captioner that rejected one image of the exam.
    words = {"mine": prompts["oracle"], "theirs": make_captions(store, dataset, Bank(), "other", leave_out=[gone])}
    models = [checkpoint, make_checkpoint(store, seed=2)]

    def examine(model, name, **beside):
        return evaluate(store, config, model, dataset, {"oracle": words[name], **beside})

    with pytest.raises(VipError, match="different exams: their images; evaluate with one config: `crossed`"):
        crossing(store, [examine(models[0], "mine"), examine(models[0], "theirs")], "kid")
    cells = [
        examine(model, name, **{f"{ALONGSIDE}{number}": words[other] for number, other in enumerate(sorted(words))})
        for model in models
        for name in words
    ]
    rows = crossing(store, cells, "kid")
    assert {(row["checkpoint"], row["caption_set"]) for row in rows} == {
        (model.digest, one.digest) for model in models for one in words.values()
    }
    assert len({row["value"] for row in rows}) == 4 and {row["n"] for row in rows} == {3}
    show_crossing(rows)
    title, header, *lines = capsys.readouterr().out.strip().splitlines()
    assert "3 images" in title and header.count("oracle") == 2
    assert [line.split()[0] for line in lines] == sorted(model.digest[:12] for model in models)


def test_a_run_that_crosses_stands_for_its_cells():
    run = EvaluateRun(
        name="x",
        checkpoint="one",
        dataset="d",
        prompts={"oracle": "a", "centre_only": "i"},
        crossed={"checkpoints": ("two",), "prompts": ({"oracle": "b"},)},
    )
    assert [(cell.name, cell.checkpoint, cell.prompts["oracle"], cell.alongside) for cell in run.cells] == [
        ("x", "one", "a", ("a", "b")),
        ("x.1.2", "one", "b", ("a", "b")),
        ("x.2.1", "two", "a", ("a", "b")),
        ("x.2.2", "two", "b", ("a", "b")),
    ]
    assert all(cell.prompts["centre_only"] == "i" for cell in run.cells)
    alone = run.model_copy(update={"crossed": Crossed(checkpoints=("two",))})
    assert [(cell.name, cell.alongside) for cell in alone.cells] == [("x", ()), ("x.2.1", ())]


@pytest.mark.parametrize(
    ("gap", "verdict", "strict"),
    [
        (0.5, "better", "better"),
        (0.0, "not worse", "cannot tell"),
        (-0.01, "not worse", "worse"),
        (-0.5, "worse", "worse"),
    ],
)
def test_what_is_known_to_be_better_is_found_better_image_by_image(tmp_path, gap, verdict, strict):
    store = ArtifactStore(tmp_path / "root")
    rng = np.random.default_rng(0)
    # Images differ far more from each other than the checkpoints do: only pairs can tell them apart.
    level, noise = rng.normal(0, 5, 60), rng.normal(0, 0.02, 60)

    def examined(name, values):
        rows = [
            {"image_sha256": f"{n:064}", "setting": "oracle", "metric": "clip_score", "value": v} for n, v in values
        ]
        value = float(np.mean([v for _, v in values]))
        row = {"metric_id": name, "metric": "clip_score", "value": value, "n": 60, "setting": "oracle", "unit": "x"}
        row |= dict.fromkeys(("low", "high", "network")) | dict.fromkeys(("caption_set", "view", "region"), "")

        def build(folder):
            write_table(folder / "metrics.parquet", [{**row, "checkpoint": name}], METRICS)
            write_table(folder / "images.parquet", rows, IMAGE_METRICS)
            return {}

        params = {"resamples": 500, "confidence": 0.95, "seed": 0}
        return store.build(Recipe(kind="evaluation", stage="test", params={**params, "name": name}), build)[0]

    one = examined("one", list(enumerate(level.tolist())))
    # In another order, and with one image that the first does not know.
    two = examined("two", [*reversed(list(enumerate((level + gap + noise).tolist()))), (99, 1e6)])
    (row,) = compare(store, one, two)
    assert (row["verdict"], row["margin"], row["n"]) == (verdict, 0.25, 60)
    assert row["gain"] == pytest.approx(gap, abs=0.01) and row["high"] - row["low"] < 0.05
    assert compare(store, one, two, {"clip_score": 0.001})[0]["verdict"] == strict


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
