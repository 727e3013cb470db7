"""Compare: two checkpoints in the same exam, image by image, with a verdict."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import VipError
from schemas.evaluate_config import PROMPTS_OF
from schemas.manifest import Manifest
from schemas.tables import IMAGE_METRICS, METRICS
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.evaluation.evaluate import IMAGES_TABLE, METRICS_TABLE
from vip.evaluation.features import FeatureRows
from vip.evaluation.interval import Estimate, mean_of
from vip.evaluation.kid import kernel_distance_gain
from vip.evaluation.rows import UNPASTED

Verdict = Literal["better", "not worse", "worse", "cannot tell"]

BETTER: Mapping[str, Literal["higher", "lower"]] = {
    "frechet_distance": "lower",
    "kid": "lower",
    "inception_score": "higher",
    "inception_score_10": "higher",
    "frechet_distance_unpasted": "lower",
    "kid_unpasted": "lower",
    "inception_score_unpasted": "higher",
    "inception_score_10_unpasted": "higher",
    "psnr_known_unpasted": "higher",
    "psnr_known_pasted": "higher",
    "known_part_exact": "higher",
    "ssim_known_unpasted": "higher",
    "seam_error": "lower",
    "clip_score": "higher",
    "clip_score_centre": "higher",
    "clip_score_surrounding": "higher",
    "lpips_known_unpasted": "lower",
    "obedience": "higher",
    "contamination": "lower",
}
"""Metric -> which way is better. Diversity has no better way: noise is diverse."""

MARGINS: Mapping[str, float] = {
    "kid": 0.005,
    "kid_unpasted": 0.005,
    "psnr_known_unpasted": 0.5,
    "psnr_known_pasted": 0.5,
    "known_part_exact": 0.01,
    "ssim_known_unpasted": 0.01,
    "seam_error": 1.0,
    "clip_score": 0.25,
    "clip_score_centre": 0.25,
    "clip_score_surrounding": 0.25,
    "lpips_known_unpasted": 0.01,
    "obedience": 0.02,
    "contamination": 0.02,
}
"""Metric -> how much worse still counts as not worse, in the metric's own unit; a user may state others."""

_EXAM = ("view", "region", "split", "steps", "guidance", "feather", "seed", "network", "probe", "scorers", "images")


def verdict_of(low: float | None, high: float | None, margin: float | None) -> Verdict:
    """What an interval of the gain (above 0 = better) says.

    ``better``: all of it lies above 0. ``not worse``: all of it lies above minus the margin. ``worse``: all of it lies
    below 0 and not above minus the margin. Anything else, and anything without an interval: ``cannot tell``.
    """
    if low is None or high is None:
        return "cannot tell"
    if low > 0:
        return "better"
    if margin is not None and low > -margin:
        return "not worse"
    return "worse" if high < 0 else "cannot tell"


def compare(
    store: ArtifactStore, first: Manifest, second: Manifest, margins: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Compare the second evaluation with the first, metric by metric and setting by setting.

    Args:
        store: where both lie.
        first, second: evaluations of the same exam: images, regions, prompt sets, sampler, networks.
        margins: stated margins; what is not named keeps that of ``MARGINS``.

    Returns:
        Rows of ``COMPARISON``. Metrics measured on every image, and KID, are compared in pairs of images; a Frechet
        distance and an Inception Score have no honest interval, so nothing is concluded from them.

    Raises:
        VipError: where the exams differ.
    """
    _same_exam(first, second)
    margins = {**MARGINS, **(margins or {})}
    tables = [read_table(store.read(made, METRICS_TABLE), METRICS).to_pylist() for made in (first, second)]
    images = [read_table(store.read(made, IMAGES_TABLE), IMAGE_METRICS) for made in (first, second)]
    others = {(row["metric"], row["setting"]): row for row in tables[1]}
    rows = []
    for one in tables[0]:
        metric, setting = one["metric"], one["setting"]
        two = others.get((metric, setting))
        if two is None or metric not in BETTER or setting not in PROMPTS_OF:
            continue
        gain = _gain(store, first, second, metric, setting, images)
        sign = 1 if BETTER[metric] == "higher" else -1
        value = sign * (two["value"] - one["value"]) if gain is None else gain.value
        low, high = (None, None) if gain is None else (gain.low, gain.high)
        rows.append(
            {
                "metric": metric,
                "setting": setting,
                "first": one["value"],
                "second": two["value"],
                "gain": value,
                "low": low,
                "high": high,
                "margin": margins.get(metric),
                "verdict": verdict_of(low, high, margins.get(metric)),
                "n": one["n"] if gain is None else gain.n,
                "first_metric_id": one["metric_id"],
                "second_metric_id": two["metric_id"],
            }
        )
    return rows


def crossing(store: ArtifactStore, evaluations: Sequence[Manifest], metric: str) -> list[dict[str, Any]]:
    """Checkpoints x prompt sets: whether the model or the captions moved a number.

    Returns:
        One row for each checkpoint, setting and prompt set of the evaluations, with value, interval and metric id:
        among rows of one prompt set the model differs, among rows of one checkpoint the captions do.

    Raises:
        VipError: where evaluations of one region differ in anything else, such as their images.
    """
    exams: dict[tuple[str, str], Manifest] = {}
    for evaluation in evaluations:
        place = (str(evaluation.params["view"]), str(evaluation.params["region"]))
        _same_exam(exams.setdefault(place, evaluation), evaluation, crossed=True)
    rows = []
    for evaluation in evaluations:
        for row in read_table(store.read(evaluation, METRICS_TABLE), METRICS).to_pylist():
            if row["metric"] == metric and row["setting"] in PROMPTS_OF:
                keys = ("checkpoint", "setting", "caption_set", "region", "value", "low", "high", "n", "metric_id")
                rows.append({key: row[key] for key in keys})
    return sorted(rows, key=lambda row: (row["region"], row["setting"], row["caption_set"], row["checkpoint"]))


def _gain(
    store: ArtifactStore,
    first: Manifest,
    second: Manifest,
    metric: str,
    setting: str,
    images: Sequence[pa.Table],
) -> Estimate | None:
    resamples, confidence, seed = (first.params[name] for name in ("resamples", "confidence", "seed"))
    if metric in ("kid", "kid_unpasted"):
        setting += UNPASTED if metric.endswith("_unpasted") else ""
        real, one, two = (
            FeatureRows(store, _features(store, made, of))
            for made, of in ((first, "real"), (first, setting), (second, setting))
        )
        return kernel_distance_gain(real, one, two, resamples, confidence, seed)
    values = []
    for table in images:
        own = table.filter((pc.field("metric") == metric) & (pc.field("setting") == setting))
        values.append(dict(zip(own["image_sha256"].to_pylist(), own["value"].to_pylist(), strict=True)))
    pairs = [(values[0][sha], values[1][sha]) for sha in values[0] if sha in values[1]]
    gaps = np.array([two - one for one, two in pairs if one is not None and two is not None])
    if not len(gaps):
        return None
    return mean_of(gaps if BETTER[metric] == "higher" else -gaps, resamples, confidence, seed)


def _features(store: ArtifactStore, evaluation: Manifest, of: str) -> list[Manifest]:
    found = {}
    for role, ref in evaluation.inputs.items():
        what, _, number = role.rpartition("/")
        if what == f"features/{of}":
            found[int(number)] = store.require(ref)
    return [found[number] for number in sorted(found)]


def _same_exam(first: Manifest, second: Manifest, crossed: bool = False) -> None:
    """Refuse what cannot be compared; where ``crossed``, prompt sets and checkpoints are what may differ."""
    different = [name for name in _EXAM if first.params.get(name) != second.params.get(name)]
    kinds = ("features/real/",) if crossed else ("prompts/", "features/real/")
    pinned = {role for made in (first, second) for role in made.inputs if role.startswith(kinds)}
    for role in sorted(pinned):
        if getattr(first.inputs.get(role), "digest", None) != getattr(second.inputs.get(role), "digest", None):
            different.append("their images" if role.startswith("features/") else role)
    if different:
        remedy = "the same config and the same pinned prompt sets"
        if crossed:
            remedy = "one config: `crossed` in it names the checkpoints and prompt sets, which then share their images"
        raise VipError(
            f"the evaluations are of different exams: {', '.join(dict.fromkeys(different))}", f"evaluate with {remedy}"
        )
