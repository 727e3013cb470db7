"""Kernel Inception Distance's statistic, on the features of any network, with a bootstrap interval."""

import numpy as np

from schemas.errors import VipError
from vip.evaluation.interval import Estimate

_BLOCK = 1024


def kernel_distance(real: np.ndarray, generated: np.ndarray, resamples: int, confidence: float, seed: int) -> Estimate:
    """Unbiased squared MMD with the kernel ``(x.y / width + 1)^3`` (Binkowski et al., 2018), over all pairs.

    The usual mean over random subsets has this value as its expectation; all pairs have less noise and no subset size
    to choose. Row i of both arrays belongs to the same image, and images are what the bootstrap draws. A pair of an
    image with itself would count more often in a resample than in the data and push the interval up, so such pairs keep
    the share that they have in the data (none within a set, 1/n across the sets).

    Args:
        real, generated: features of shape (n, width), one row an image, in the same order.
        resamples: bootstrap draws; 0 gives no interval.
        confidence: of the percentile interval.
        seed: of the draws.

    Returns:
        The distance, which may be slightly negative, in the kernel's own unit.
    """
    values = _values(real, generated, _draws(len(real), resamples, seed))
    return _estimate(values, len(real), resamples, confidence)


def kernel_distance_gain(
    real: np.ndarray, first: np.ndarray, second: np.ndarray, resamples: int, confidence: float, seed: int
) -> Estimate:
    """By how much ``second`` lies nearer to ``real`` than ``first``, the same images drawn for both.

    Takes and gives what :func:`kernel_distance` does; above 0, the second is nearer.
    """
    draws = _draws(len(real), resamples, seed)
    return _estimate(_values(real, first, draws) - _values(real, second, draws), len(real), resamples, confidence)


def _values(real: np.ndarray, generated: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The distance in every draw."""
    n, width = real.shape
    if generated.shape != real.shape:
        raise VipError(f"features of {n} real and {len(generated)} generated images do not pair up")
    if n < 2:
        raise VipError("a kernel distance needs at least two images", "evaluate more images")
    within, across, own = (np.zeros(len(draws)) for _ in range(3))
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        place = np.arange(start, min(start + _BLOCK, n))
        for features, other, into in ((real, real, within), (generated, generated, within), (real, generated, across)):
            kernel = (features[rows] @ other.T / width + 1) ** 3
            if features is not other:
                own += draws[:, rows] @ kernel[np.arange(len(place)), place]
            kernel[np.arange(len(place)), place] = 0
            into += np.einsum("br,br->b", draws[:, rows], draws @ kernel.T)
    # Ordered pairs of different images in each resample; the plain data (draw 0) has n (n - 1).
    pairs = n * n - (draws**2).sum(axis=1)
    return within / pairs - 2 * (across / pairs * (n - 1) + own / n) / n


def _estimate(values: np.ndarray, n: int, resamples: int, confidence: float) -> Estimate:
    """The first value is that of the data; the rest are draws."""
    if resamples == 0:
        return Estimate(float(values[0]), None, None, n)
    low, high = np.quantile(values[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(values[0]), float(low), float(high), n)


def _draws(n: int, resamples: int, seed: int) -> np.ndarray:
    """How often each image is drawn: (1 + resamples, n); the first row is the data itself."""
    rng = np.random.Generator(np.random.PCG64(seed))
    draws = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    # A draw of one image only, n times, holds no pair of different images; it happens with two or three images.
    return np.vstack([np.ones((1, n)), draws[draws.max(axis=1) < n]]).astype(np.float64)
