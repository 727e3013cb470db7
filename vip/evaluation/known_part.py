"""How well the known part survives."""

import numpy as np
from skimage.metrics import structural_similarity

CAP = 100.0
"""dB; stands for "identical", whose PSNR is infinite and would swallow every mean. One grey level in one value is
100 dB as well where the known part has more than 153,787 values, so that :func:`known_exact` compares the pixels."""


def psnr_known(original: np.ndarray, result: np.ndarray, mask: np.ndarray) -> float:
    """PSNR over the pixels that were given.

    Args:
        original, result: uint8 of shape (height, width, 3).
        mask: uint8 of shape (height, width); 1 = generated, 0 = given.

    Returns:
        Decibels against a peak of 255, at most ``CAP``, which does not prove that nothing changed.
    """
    known = mask == 0
    gap = original[known].astype(np.float64) - result[known].astype(np.float64)
    error = float(np.mean(gap**2))
    return CAP if error == 0 else min(CAP, 10 * np.log10(255.0**2 / error))


def known_exact(original: np.ndarray, result: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the pixels that were given are the original's bit for bit; arrays as for :func:`psnr_known`."""
    known = mask == 0
    return np.array_equal(original[known], result[known])


def ssim_known(original: np.ndarray, result: np.ndarray, mask: np.ndarray) -> float | None:
    """Mean structural similarity (Wang et al., 2004; 7 x 7 windows) over windows that lie in the known part wholly.

    Returns:
        A value up to 1, or None where no window fits.
    """
    if min(mask.shape) < 7:
        return None
    # A window is the known part's own where no pixel of it is generated: grow the mask by the window's reach.
    reach = np.pad(mask, 3, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(reach, (7, 7)).max(axis=(2, 3))
    near[:3], near[-3:], near[:, :3], near[:, -3:] = 1, 1, 1, 1
    if near.all():
        return None
    _, values = structural_similarity(original, result, channel_axis=2, data_range=255, full=True)
    return float(values[near == 0].mean())
