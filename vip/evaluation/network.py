"""Network: a fixed function from pixels to features, under a name of its own.

A Frechet distance is called FID only on the pool features of the Inception v3 that FID was defined with; on any other
network it carries that network's name.
"""

from typing import NamedTuple, Protocol

import numpy as np


class Features(NamedTuple):
    """What a network says of a batch: float32 ``pooled`` (n, width) and class ``logits`` (n, classes)."""

    pooled: np.ndarray
    logits: np.ndarray


class FeatureNetwork(Protocol):
    """A fixed function from pixels to features.

    ``digest`` covers the weights and the preparation of the pixels.
    """

    name: str
    digest: str

    def __call__(self, pixels: np.ndarray) -> Features:
        """Features of uint8 pixels of shape (n, height, width, 3), RGB."""
        ...


def label_of(name: str, digest: str) -> str:
    """How a table names a network: ``name@`` and the first 12 digits of its digest."""
    return f"{name}@{digest[:12]}"
