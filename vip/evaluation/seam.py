"""Seam error: whether the border of the mask can be seen."""

import numpy as np


def seam_error(original: np.ndarray, result: np.ndarray, mask: np.ndarray) -> float:
    """How much larger the step across the border of the mask is than in the original, at the same place.

    Args:
        original, result: uint8 of shape (height, width, 3).
        mask: uint8 of shape (height, width); both values occur.

    Returns:
        Grey levels: mean absolute difference of neighbours of which one is known and one generated, less that of the
        original. 0 is a border that nobody finds; below 0 the result is smoother there than the original.
    """
    return _step(result, mask) - _step(original, mask)


def _step(pixels: np.ndarray, mask: np.ndarray) -> float:
    values = pixels.astype(np.float64)
    down = np.abs(np.diff(values, axis=0))[np.diff(mask.astype(np.int8), axis=0) != 0]
    across = np.abs(np.diff(values, axis=1))[np.diff(mask.astype(np.int8), axis=1) != 0]
    return float(np.concatenate([down, across]).mean())
