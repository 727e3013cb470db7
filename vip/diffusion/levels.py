"""The mask at every level of a UNet, and which positions each branch has to compute there.

Positions belong to the centre branch where the mask is below 1 and to the surrounding branch where it is above 0. A
branch computes its own positions only: with a hard mask the two together cost one full pass, with a soft one only the
positions on the border are computed twice and blended.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch.nn import functional as F

MaskMode = Literal["area", "nearest"]


class Level(NamedTuple):
    """One resolution of the UNet, for a batch of B masks and N = height * width positions.

    Attributes:
        mask: (B, 1, height, width) float32 in [0, 1]; 1 = surrounding.
        center_rows: (B, Nc) int64, rows of the features flattened to (B * N, channels) that the centre branch computes.
        surrounding_rows: (B, Ns) int64, the same for the surrounding branch.
        pick: (B * N,) int64, for every position its row in the outputs of both branches, laid centre first.
        other: (B * N,) int64, the row of the second output at a border position; ``None`` where the mask is hard.
        weight: (B, N, 1) float32, the share of ``other``; ``None`` where the mask is hard.
    """

    mask: torch.Tensor
    center_rows: torch.Tensor
    surrounding_rows: torch.Tensor
    pick: torch.Tensor
    other: torch.Tensor | None
    weight: torch.Tensor | None

    def to(self, device: torch.device | str) -> "Level":
        """The same level on another device."""
        values: list[Any] = [None if value is None else value.to(device, non_blocking=True) for value in self]
        return Level(*values)


def level_sizes(height: int, width: int, count: int) -> list[tuple[int, int]]:
    """Sizes of the feature maps of a UNet that halves (rounding up) from ``height`` x ``width`` latents."""
    sizes = [(height, width)]
    for _ in range(count - 1):
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


def pooled_mask(mask: torch.Tensor, size: tuple[int, int], mode: MaskMode) -> torch.Tensor:
    """Bring pixel masks to a feature map.

    Args:
        mask: (B, 1, H, W) float, 1 = generate.
        size: height and width of the feature map.
        mode: ``area`` averages over the pixels under each position; ``nearest`` rounds that average to 0 or 1, a half
            to 1. Both treat opposite sides alike, so what is centred stays centred. (Picking the pixel at a corner of
            each cell does not: the 3x3 map of a 192 px image comes out off centre.)

    Returns:
        (B, 1, *size) float32 in [0, 1].
    """
    # float64 keeps the average of a mask of ones exactly 1, whatever the window.
    mean = F.adaptive_avg_pool2d(mask.double(), size)
    soft = torch.where(mean > 1 - 1e-9, 1.0, torch.where(mean < 1e-9, 0.0, mean))
    return (soft >= 0.5 - 1e-9).float() if mode == "nearest" else soft.float()


def plan_levels(
    mask: torch.Tensor,
    latent_size: tuple[int, int],
    count: int,
    mode: MaskMode = "area",
    repeat: int = 1,
    uniform: bool = False,
) -> tuple[Level, ...]:
    """Plan every level of a UNet for a batch of masks.

    The counts of positions decide shapes, so this runs on the CPU, once for a batch or for a whole sampling run.

    Args:
        mask: (B, 1, H, W) pixel masks, 1 = generate.
        latent_size: height and width of the latents.
        count: number of resolutions of the UNet.
        mode: see :func:`pooled_mask`.
        repeat: how often the batch is repeated as a whole (2 for guidance).
        uniform: see :func:`plan_level`.
    """
    pixels = mask.detach().cpu()
    return tuple(
        plan_level(pooled_mask(pixels, size, mode).repeat(repeat, 1, 1, 1), uniform)
        for size in level_sizes(*latent_size, count)
    )


def plan_level(mask: torch.Tensor, uniform: bool = False) -> Level:
    """Plan one level from its mask.

    Args:
        mask: (B, 1, height, width) float32 in [0, 1].
        uniform: a hard mask is planned like a soft one whose weights are 0: the same result by a little more work. A
            compiled model then meets levels of one structure, and is not compiled anew for every mix of hard and soft.
    """
    flat = mask.flatten(1)
    in_center, in_surrounding = flat < 1, flat > 0
    center_rows, center_back = _rows(in_center)
    surrounding_rows, surrounding_back = _rows(in_surrounding)
    surrounding_back = surrounding_back + center_rows.numel()
    pick = torch.where(in_center, center_back, surrounding_back).flatten()
    both = in_center & in_surrounding
    if not uniform and not bool(both.any()):
        return Level(mask, center_rows, surrounding_rows, pick, None, None)
    other = torch.where(both, surrounding_back, pick.view_as(flat)).flatten()
    weight = torch.where(both, flat, torch.zeros_like(flat)).unsqueeze(-1)
    return Level(mask, center_rows, surrounding_rows, pick, other, weight)


def blend(center: torch.Tensor, surrounding: torch.Tensor, level: Level) -> torch.Tensor:
    """E = (1 - m) C + m S from the computed positions only.

    Args:
        center: (B, Nc, channels), outputs of the centre branch at ``level.center_rows``.
        surrounding: (B, Ns, channels), outputs of the surrounding branch at ``level.surrounding_rows``.
        level: the plan that the rows came from.

    Returns:
        (B, N, channels).
    """
    batch, channels = center.shape[0], center.shape[-1]
    rows = torch.cat([center.reshape(-1, channels), surrounding.reshape(-1, channels)])
    picked = rows.index_select(0, level.pick).view(batch, -1, channels)
    if level.other is None or level.weight is None:
        return picked
    other = rows.index_select(0, level.other).view(batch, -1, channels)
    return torch.lerp(picked, other, level.weight.to(picked.dtype))


def take(features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Pick ``rows`` (B, n) of ``features`` (B, N, channels): (B, n, channels)."""
    batch, _, channels = features.shape
    return features.reshape(-1, channels).index_select(0, rows.flatten()).view(batch, -1, channels)


def _rows(member: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the members of each sample, padded to one length, and the way back.

    Args:
        member: (B, N) bool.

    Returns:
        rows (B, n) into B * N, and (B, N) positions in B * n (0-based within this branch; arbitrary for non-members).
    """
    batch, count = member.shape
    sizes = member.sum(1)
    longest = max(1, int(sizes.max()))
    # A stable sort lays the members first, in order; what pads a shorter sample is computed and never picked.
    order = torch.argsort((~member).to(torch.uint8), dim=1, stable=True)[:, :longest]
    offset = torch.arange(batch).unsqueeze(1)
    place = (member.long().cumsum(1) - 1).clamp_min(0)
    return order + offset * count, place + offset * longest
