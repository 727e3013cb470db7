"""Borders: whether the edges of tiles can be found in a picture."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vip.outpaint.tiles import Tile

_NEAR, _FAR = 2, 10
"""Pixels beside a line: its own steps end before the first, and those of its neighbourhood after the second."""


class Lines(NamedTuple):
    """Places between pixels: line n lies between row (or column) n - 1 and n."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]


def edges_of(tiles: Iterable[Tile], painted: tuple[int, int], canvas: tuple[int, int], cell: int) -> Lines:
    """The inner edges of tiles, in pixels of the canvas.

    Args:
        tiles: in latent cells.
        painted: height and width at which they were painted.
        canvas: height and width of the picture.
        cell: pixels a latent cell.
    """
    found: tuple[set[int], set[int]] = (set(), set())
    for tile in tiles:
        for axis, (first, length) in enumerate(((tile.top, tile.height), (tile.left, tile.width))):
            for cells in (first, first + length):
                place = round(cells * cell * canvas[axis] / painted[axis])
                if _FAR < place < canvas[axis] - _FAR:
                    found[axis].add(place)
    return Lines(*(tuple(sorted(one)) for one in found))


def strongest_step(picture: np.ndarray, mask: np.ndarray, lines: Lines) -> float:
    """How much the clearest of the lines stands out from the pixels beside it.

    Args:
        picture: uint8 (height, width, 3).
        mask: uint8 (height, width), 1 = generated; only steps between generated pixels count.
        lines: where to look.

    Returns:
        The largest ratio of the mean step across a line to the median of those across the lines from 3 to 10 pixels
        beside it: about 1 where there is nothing to see.
    """
    ratios = [1.0]
    for values, hidden, places in (
        (picture, mask, lines.rows),
        (picture.transpose(1, 0, 2), mask.T, lines.columns),
    ):
        steps = _steps(values.astype(np.float64), hidden)
        for place in places:
            beside = [place + gap for gap in range(-_FAR, _FAR + 1) if abs(gap) > _NEAR]
            around = _known([steps[other - 1] for other in beside if 0 < other <= len(steps)])
            own = _known([steps[place - 1]])
            if len(own) and len(around):
                ratios.append(float(own[0] / max(np.median(around), 1e-3)))
    return max(ratios)


def between(lines: Lines) -> Lines:
    """As many lines halfway between those given, where no tile ends: what chance alone shows."""
    return Lines(*(tuple((a + b) // 2 for a, b in pairwise(axis)) for axis in lines))


def elsewhere(lines: Lines, canvas: tuple[int, int]) -> Lines:
    """All lines within a canvas (height, width) at which no tile ends."""
    return Lines(
        *(
            tuple(place for place in range(_FAR + 1, length - _FAR) if place not in axis)
            for axis, length in zip(lines, canvas, strict=True)
        )
    )


def _steps(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean step between row n and n + 1 over generated pixels, NaN where there are fewer than 16: (height - 1,)."""
    both = (mask[1:] == 1) & (mask[:-1] == 1)
    gaps = np.abs(np.diff(values, axis=0)).mean(axis=2)
    count = both.sum(axis=1)
    return np.where(count >= 16, (gaps * both).sum(axis=1) / np.maximum(count, 1), np.nan)


def _known(values: Sequence[float]) -> np.ndarray:
    found = np.asarray(values, np.float64)
    return found[np.isfinite(found)]
