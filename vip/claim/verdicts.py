"""Verdicts: each arm against the plain fine-tune, paired by image, over all seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.claim_config import ClaimConfig
from schemas.tables import IMAGE_METRICS, METRICS
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.claim.run import Outcome
from vip.evaluation.compare import BETTER, MARGINS, Verdict, verdict_of
from vip.evaluation.evaluate import IMAGES_TABLE, METRICS_TABLE
from vip.evaluation.interval import mean_of

PAIRED = ("obedience", "contamination", "seam_error", "psnr_known_unpasted")
"""Metrics of single images that arms are compared by."""


class Line(NamedTuple):
    """One arm, setting and metric.

    Attributes:
        values: one a seed.
        gain, low, high: against the other arm, above 0 = better; images are the unit, each averaged over its seeds.
        seed_gains: the gain of every seed, which shows what training alone moves.
    """

    arm: str
    setting: str
    metric: str
    values: tuple[float, ...]
    gain: float | None
    low: float | None
    high: float | None
    seed_gains: tuple[float, ...]
    verdict: Verdict | None


def figures(store: ArtifactStore, outcomes: Sequence[Outcome], metric: str, setting: str) -> dict[str, list[float]]:
    """Arm -> the values of one metric, one a seed."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes:
        for row in read_table(store.read(outcome.evaluation, METRICS_TABLE), METRICS).to_pylist():
            if (row["metric"], row["setting"]) == (metric, setting):
                found.setdefault(outcome.arm, []).append(row["value"])
    return found


def verdict_lines(store: ArtifactStore, config: ClaimConfig, outcomes: Sequence[Outcome]) -> list[Line]:
    """Every arm against ``config.against``, for the metrics that single images have."""
    tables = {
        (outcome.arm, outcome.seed): read_table(store.read(outcome.evaluation, IMAGES_TABLE), IMAGE_METRICS).to_pylist()
        for outcome in outcomes
    }
    lines = []
    for setting in config.evaluate.settings:
        for metric in PAIRED:
            values = {
                key: {
                    row["image_sha256"]: row["value"]
                    for row in rows
                    if (row["setting"], row["metric"]) == (setting, metric) and row["value"] is not None
                }
                for key, rows in tables.items()
            }
            if not any(values.values()):
                continue
            lines += [_line(config, values, arm, setting, metric) for arm in config.arms]
    return lines


def _line(
    config: ClaimConfig, values: dict[tuple[str, int], dict[str, float]], arm: str, setting: str, metric: str
) -> Line:
    own = [values[arm, seed] for seed in range(config.seeds) if (arm, seed) in values]
    means = tuple(float(np.mean(list(one.values()))) for one in own)
    if arm == config.against:
        return Line(arm, setting, metric, means, None, None, None, (), None)
    other = [values[config.against, seed] for seed in range(config.seeds) if (config.against, seed) in values]
    sign = 1 if BETTER[metric] == "higher" else -1
    # An arm that is not trained has one outcome, which meets the other arm's every seed.
    pairs = [(own[min(n, len(own) - 1)], other[min(n, len(other) - 1)]) for n in range(max(len(own), len(other)))]
    gaps = np.array([[sign * (one[sha] - two[sha]) for sha in one if sha in two] for one, two in pairs], np.float64)
    exam = config.evaluate
    mean = mean_of(gaps.mean(axis=0), exam.resamples, exam.confidence, exam.seed)
    verdict = verdict_of(mean.low, mean.high, MARGINS.get(metric))
    each = tuple(float(one) for one in gaps.mean(axis=1))
    return Line(arm, setting, metric, means, mean.value, mean.low, mean.high, each, verdict)
