"""Paste the known pixels back over a generated picture."""

import numpy as np
import torch
from torch.nn import functional as F


def feather_weights(mask: torch.Tensor, feather: int) -> torch.Tensor:
    """How much of the generated picture each pixel takes.

    Args:
        mask: (B, 1, H, W) float, 1 = generated, 0 = known.
        feather: width in pixels of the band of *known* pixels, next to generated ones, in which the two are mixed; 0 =
            hard.

    Returns:
        (B, 1, H, W) float32: 1 where the mask generates, falling linearly over the band, exactly 0 at every known pixel
        further than ``feather`` (counted in king's moves) from a generated one.
    """
    reach = mask.float()
    weights = reach.clone()
    for step in range(1, feather + 1):
        grown = F.max_pool2d(reach, 3, stride=1, padding=1)
        weights = torch.where((grown > 0) & (reach == 0), torch.full_like(weights, 1 - step / (feather + 1)), weights)
        reach = grown
    return weights


def paste_back(generated: np.ndarray, known: np.ndarray, mask: np.ndarray, feather: int) -> np.ndarray:
    """Lay the known pixels over the generated ones.

    Args:
        generated, known: (B, H, W, 3) uint8.
        mask: (B, H, W) uint8, 1 = generated, 0 = known.
        feather: see :func:`feather_weights`.

    Returns:
        (B, H, W, 3) uint8; outside the feathered band known pixels are those of ``known``, bit for bit.
    """
    weights = feather_weights(torch.from_numpy(mask.astype(np.float32))[:, None], feather).squeeze(1).numpy()[..., None]
    mixed = np.rint(weights * generated + (1 - weights) * known).astype(np.uint8)
    return np.where(weights == 0, known, np.where(weights == 1, generated, mixed))
