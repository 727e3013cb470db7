"""Frechet distance between two sets of features, from means and covariances gathered in one pass."""

from collections.abc import Iterable

import numpy as np

from schemas.errors import VipError


class Moments:
    """Running mean and covariance of feature vectors; memory depends on their width only.

    Blocks are merged by the pairwise update of Chan, Golub and LeVeque (1983), which does not cancel as a plain sum
    of squares does.
    """

    def __init__(self, width: int) -> None:
        self.n = 0
        self.mean = np.zeros(width)
        self._scatter = np.zeros((width, width))

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray]) -> "Moments":
        """Gather arrays of shape (n, width), one after the other.

        Raises:
            VipError: where there is no feature at all.
        """
        moments: Moments | None = None
        for block in blocks:
            moments = moments or cls(block.shape[1])
            moments.add(block)
        if moments is None:
            raise VipError("there are no features to take moments of", "give the exam at least two images")
        return moments

    def add(self, block: np.ndarray) -> None:
        """Take in an array of shape (n, width), any float type; the sums are float64."""
        rows = np.asarray(block, np.float64)
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        centred = rows - mean
        gap, total = mean - self.mean, self.n + len(rows)
        self._scatter += centred.T @ centred + np.outer(gap, gap) * (self.n * len(rows) / total)
        self.mean += gap * (len(rows) / total)
        self.n = total

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance, shape (width, width).

        Raises:
            VipError: for fewer than two vectors.
        """
        if self.n < 2:
            raise VipError("a covariance needs at least two images", "evaluate more images")
        return self._scatter / (self.n - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """Squared Frechet (2-Wasserstein) distance of the Gaussians with these moments.

    FID's formula (Heusel et al., 2017): ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``. The trace of the root is the
    sum of the roots of the eigenvalues of ``C1^(1/2) C2 C1^(1/2)``, which is symmetric and positive semi-definite, so
    that fewer images than features do no harm.

    Returns:
        A value >= 0 in squared units of the features. It falls with the number of images: compare only equal numbers.
    """
    first, second = one.covariance, other.covariance
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    # root.T @ C2 @ root has the same eigenvalues as C1^(1/2) C2 C1^(1/2), by an orthogonal change of basis.
    crossed = np.linalg.eigvalsh(root.T @ second @ root)
    gap = one.mean - other.mean
    distance = gap @ gap + np.trace(first) + np.trace(second) - 2 * np.sqrt(np.clip(crossed, 0, None)).sum()
    return float(max(distance, 0.0))
