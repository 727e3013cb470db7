"""The regions that the nano models are trained on."""

import functools

import numpy as np

from schemas.region import BrushRegion, CentreRegion, Region, SidesRegion, View
from vip.nano.scene import SIZE
from vip.regions.mask import render_mask

VIEW = View(width=SIZE, height=SIZE)
DEFAULT = CentreRegion(keep=0.5)
"""What scores are stated for, unless they say otherwise."""

BOXES: tuple[Region, ...] = (
    CentreRegion(keep=0.375),
    CentreRegion(keep=0.625),
    CentreRegion(keep=0.875),
    SidesRegion(left=0.25),
    SidesRegion(right=0.25),
    SidesRegion(left=0.375),
    SidesRegion(right=0.375),
    SidesRegion(top=0.375),
    SidesRegion(bottom=0.375),
    SidesRegion(left=0.25, right=0.25),
    SidesRegion(top=0.25, bottom=0.25),
    SidesRegion(left=0.25, top=0.25),
    SidesRegion(right=0.25, top=0.25),
    SidesRegion(left=0.25, bottom=0.25),
    SidesRegion(right=0.25, bottom=0.25),
)
"""Regions whose kept part is a box; the captioner knows these and the default."""

DEFAULT_SHARE = 0.6


@functools.lru_cache(maxsize=4096)
def mask_of(region: Region) -> np.ndarray:
    """The mask of ``region`` in a 64 x 64 view, uint8 [64, 64]; 1 = generate."""
    mask = render_mask(region, VIEW)
    mask.setflags(write=False)
    return mask


def draw_box_region(rng: np.random.Generator) -> Region:
    """The default region, or one of ``BOXES``."""
    if rng.random() < DEFAULT_SHARE:
        return DEFAULT
    return BOXES[int(rng.integers(len(BOXES)))]


def draw_region(rng: np.random.Generator) -> Region:
    """The mixture of masks that the diffusion base is trained on: default, boxes, irregular brushes."""
    if rng.random() < 0.25:
        return BrushRegion(seed=int(rng.integers(1000)), cover=round(float(rng.uniform(0.35, 0.8)), 2))
    return draw_box_region(rng)
