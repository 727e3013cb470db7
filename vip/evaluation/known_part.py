"""How well the known part survives."""

import numpy as np

CAP = 100.0
"""dB; stands for "identical", whose PSNR is infinite and would swallow every mean. One grey level in one of ten
million values already gives less than this for any picture of usual size."""


def psnr_known(original: np.ndarray, result: np.ndarray, mask: np.ndarray) -> float:
    """PSNR over the pixels that were given.

    Args:
        original, result: uint8 of shape (height, width, 3).
        mask: uint8 of shape (height, width); 1 = generated, 0 = given.

    Returns:
        Decibels against a peak of 255, at most ``CAP``.
    """
    known = mask == 0
    gap = original[known].astype(np.float64) - result[known].astype(np.float64)
    error = float(np.mean(gap**2))
    return CAP if error == 0 else min(CAP, 10 * np.log10(255.0**2 / error))
