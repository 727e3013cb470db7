"""Scorer: a network that judges every picture alone, by its text or against the real one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Shown(NamedTuple):
    """What a scorer is shown of n pictures.

    Attributes:
        real, pasted, unpasted: uint8 (n, height, width, 3).
        masks: uint8 (n, height, width); 1 = generated.
        texts: n pairs of centre and surrounding text, as the model was told.
    """

    real: np.ndarray
    pasted: np.ndarray
    unpasted: np.ndarray
    masks: np.ndarray
    texts: Sequence[tuple[str, str]]


class Scorer(Protocol):
    """A fixed function from pictures to figures.

    ``units`` names its metrics; ``digest`` covers the weights and the preparation of the pixels.
    """

    name: str
    digest: str
    units: Mapping[str, str]

    def __call__(self, shown: Shown) -> dict[str, list[float | None]]:
        """Metric -> a value for each picture, None where there is nothing to judge."""
        ...
