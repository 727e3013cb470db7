"""A value with its interval and the number of images behind it."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A figure: ``low`` and ``high`` are None where no honest interval exists; ``n`` counts images."""

    value: float
    low: float | None
    high: float | None
    n: int


def mean_of(values: np.ndarray, resamples: int, confidence: float, seed: int) -> Estimate:
    """Mean of ``values`` (shape (n,)) with a percentile bootstrap interval over its entries."""
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return Estimate(mean, mean if len(values) > 1 else None, mean if len(values) > 1 else None, len(values))
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        batch=max(1, 4_000_000 // len(values)),
        rng=np.random.Generator(np.random.PCG64(seed)),
    )
    return Estimate(mean, float(found.confidence_interval.low), float(found.confidence_interval.high), len(values))
