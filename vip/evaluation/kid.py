"""Kernel Inception Distance's statistic, on the features of any network, with a bootstrap interval."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from schemas.errors import VipError
from vip.evaluation.interval import Estimate

_BLOCK = 512
"""Images whose features are in memory at a time, on either side."""


class Rows(Protocol):
    """Features of shape (n, width), read in slices; an array will do."""

    def __len__(self) -> int:
        """How many images."""
        ...

    def __getitem__(self, wanted: slice, /) -> np.ndarray:
        """The rows of some images that stand side by side."""
        ...


def kernel_distance(
    real: Rows, generated: Rows, resamples: int, confidence: float, seed: int, paired: bool = True
) -> Estimate:
    """Unbiased squared MMD with the kernel ``(x.y / width + 1)^3`` (Binkowski et al., 2018), over all pairs.

    The usual mean over random subsets has this value as its expectation; all pairs have less noise and no subset size
    to choose. Images are what the bootstrap draws. A pair of an image with itself would count more often in a resample
    than in the data and push the interval up, so such pairs keep the share that they have in the data (none within a
    set, 1/n across paired sets). Memory is that of a few blocks of rows, however many images there are.

    Args:
        real, generated: features, one row an image.
        resamples: bootstrap draws; 0 gives no interval.
        confidence: of the percentile interval.
        seed: of the draws.
        paired: row i belongs to the same image on both sides, so that images are drawn for both at once; otherwise the
            sides are drawn apart and may differ in number.

    Returns:
        The distance, which may be slightly negative, in the kernel's own unit; ``n`` is the smaller number of images.
    """
    return _estimate(_values(real, generated, resamples, seed, paired), min(len(real), len(generated)), confidence)


def kernel_distance_gain(
    real: Rows, first: Rows, second: Rows, resamples: int, confidence: float, seed: int
) -> Estimate:
    """By how much ``second`` lies nearer to ``real`` than ``first``, the same images drawn for both.

    Takes and gives what :func:`kernel_distance` does; above 0, the second is nearer.
    """
    gains = _values(real, first, resamples, seed) - _values(real, second, resamples, seed)
    return _estimate(gains, len(real), confidence)


class _Draws:
    """How often each image is drawn: the data itself (once each), then every resample; block by block.

    How many draws fall into a block is drawn first, then which of its images; together that is drawing n of n images.
    """

    def __init__(self, n: int, resamples: int, seed: int) -> None:
        self.n, self.seed = n, seed
        self.places = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
        self.sizes = [place.stop - place.start for place in self.places]
        self._totals = np.random.Generator(np.random.PCG64(seed)).multinomial(
            n, np.array(self.sizes) / n, size=resamples
        )

    def __getitem__(self, number: int) -> np.ndarray:
        """Counts of one block's images, float64 (1 + resamples, images)."""
        rng = np.random.Generator(np.random.PCG64([self.seed, number]))
        size = self.sizes[number]
        drawn = rng.multinomial(self._totals[:, number], np.full(size, 1 / size))
        return np.vstack([np.ones((1, size)), drawn])

    def pairs(self) -> np.ndarray:
        """Ordered pairs of different images in every resample; the data has n (n - 1)."""
        return self.n**2 - sum((self[number] ** 2).sum(axis=1) for number in range(len(self.places)))


def _values(real: Rows, generated: Rows, resamples: int, seed: int, paired: bool = True) -> np.ndarray:
    """The distance in the data, and in every resample: (1 + resamples,), NaN where one holds a single image."""
    if paired and len(generated) != len(real):
        raise VipError(f"features of {len(real)} real and {len(generated)} generated images do not pair up")
    if min(len(real), len(generated)) < 2:
        raise VipError("a kernel distance needs at least two images", "evaluate more images")
    draws = _Draws(len(real), resamples, seed)
    others = draws if paired else _Draws(len(generated), resamples, seed + 1)
    across, own = _across(real, generated, draws, others, paired)
    pairs, n = draws.pairs(), len(real)
    with np.errstate(divide="ignore", invalid="ignore"):
        within = _within(real, draws) / pairs + _within(generated, others) / others.pairs()
        if not paired:
            return within - 2 * across / (n * len(generated))
        return within - 2 * (across / pairs * (n - 1) + own / n) / n


def _within(rows: Rows, draws: _Draws) -> np.ndarray:
    """Sum of the kernel over the ordered pairs of different images, in every resample."""
    total = np.zeros(1)
    for one, features in _blocks(rows, draws):
        counts = draws[one]
        for other, others in _blocks(rows, draws, one):
            kernel = _kernel(features, others)
            if one == other:
                np.fill_diagonal(kernel, 0)
            part = np.einsum("br,br->b", counts @ kernel, draws[other])
            total = total + (part if one == other else 2 * part)
    return total


def _across(
    rows: Rows, others: Rows, draws: _Draws, other_draws: _Draws, paired: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the kernel over pairs from both sets, in every resample; pairs of an image with itself apart."""
    total, own = np.zeros(1), np.zeros(1)
    for one, features in _blocks(rows, draws):
        counts = draws[one]
        for other, beside in _blocks(others, other_draws):
            kernel = _kernel(features, beside)
            if paired and one == other:
                own = own + counts @ np.diagonal(kernel)
                np.fill_diagonal(kernel, 0)
            total = total + np.einsum("br,br->b", counts @ kernel, other_draws[other])
    return total, own


def _blocks(rows: Rows, draws: _Draws, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    for number in range(first, len(draws.places)):
        yield number, np.asarray(rows[draws.places[number]], np.float64)


def _kernel(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    values = features @ others.T / features.shape[1] + 1
    return values * values * values  # several times faster than ** 3


def _estimate(values: np.ndarray, n: int, confidence: float) -> Estimate:
    """The first value is that of the data; the rest are resamples."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return Estimate(float(values[0]), None, None, n)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(values[0]), float(low), float(high), n)
