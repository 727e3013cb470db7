"""Tiles: windows of the model's own size that cover a canvas, and how they are blended."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """A window in cells (of latents or of pixels)."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def times(self, factor: int) -> "Tile":
        """The same window on a grid finer by ``factor``."""
        return Tile(*(factor * value for value in self))


def plan_tiles(height: int, width: int, tile: int, overlap: int, shifted: bool = False) -> list[Tile]:
    """Windows of at most ``tile`` x ``tile`` cells that cover ``height`` x ``width``.

    Neighbours share at least ``overlap`` cells; where the windows do not come out even, they move closer together. The
    ``shifted`` ones lie midway between the others, with one more in a row and a column.
    """
    rows, columns = (_starts(length, min(tile, length), overlap, shifted) for length in (height, width))
    return [Tile(top, left, min(tile, height), min(tile, width)) for top in rows for left in columns]


def window(tile: Tile, height: int, width: int) -> np.ndarray:
    """Weights of a tile, float32 (tile.height, tile.width): a ramp towards every neighbour, 1 at the canvas's edge."""
    down = _ramp(tile.height, tile.top > 0, tile.top + tile.height < height)
    across = _ramp(tile.width, tile.left > 0, tile.left + tile.width < width)
    return np.outer(down, across).astype(np.float32)


def _starts(length: int, tile: int, overlap: int, shifted: bool) -> list[int]:
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    starts = [round(place * (length - tile) / (count - 1)) for place in range(count)]
    return [0, *((one + other) // 2 for one, other in pairwise(starts)), length - tile] if shifted else starts


def _ramp(length: int, before: bool, after: bool) -> np.ndarray:
    """A raised cosine over the whole tile on sides with a neighbour: smooth, above 0, and never a step at an edge."""
    cells = (np.arange(length) + 0.5) / length
    rising = np.sin(np.pi / 2 * np.minimum(1, 2 * cells)) ** 2
    ramp = np.ones(length)
    if before:
        ramp = np.minimum(ramp, rising)
    if after:
        ramp = np.minimum(ramp, rising[::-1])
    return ramp
