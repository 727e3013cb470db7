"""Render a region as a mask."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.region import BrushRegion, CentreRegion, FileRegion, Region, SidesRegion, View


def render_mask(region: Region, view: View) -> np.ndarray:
    """The mask of ``region`` in the coordinates of ``view``.

    Returns:
        uint8 array of shape (height, width); 1 = generate, 0 = keep.

    Raises:
        VipError: where the mask generates nothing or keeps nothing, or its file is gone or another.
    """
    match region:
        case CentreRegion():
            mask = _centre(region, view)
        case SidesRegion():
            mask = _sides(region, view)
        case BrushRegion():
            mask = _brush(region, view)
        case FileRegion():
            mask = _file(region, view)
    generated = int(mask.sum())
    if generated == 0:
        raise VipError(f"region {region.id} generates no pixel of a {view.id} view", "choose a larger generated part")
    if generated == mask.size:
        raise VipError(f"region {region.id} keeps no pixel of a {view.id} view", "choose a larger kept part")
    return mask


def _centre(region: CentreRegion, view: View) -> np.ndarray:
    mask = np.ones((view.height, view.width), np.uint8)
    # The band has the same whole number of pixels on both sides, so that the kept part is exactly centred.
    across = round(view.width * (1 - region.keep) / 2)
    down = round(view.height * (1 - region.keep) / 2)
    mask[down : view.height - down, across : view.width - across] = 0
    return mask


def _sides(region: SidesRegion, view: View) -> np.ndarray:
    mask = np.zeros((view.height, view.width), np.uint8)
    mask[:, : round(view.width * region.left)] = 1
    mask[:, view.width - round(view.width * region.right) :] = 1
    mask[: round(view.height * region.top)] = 1
    mask[view.height - round(view.height * region.bottom) :] = 1
    return mask


def _brush(region: BrushRegion, view: View) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(region.seed))
    canvas = Image.new("L", (view.width, view.height), 0)
    draw = ImageDraw.Draw(canvas)
    side = min(view.width, view.height)
    wanted = region.cover * view.width * view.height
    for _ in range(256):
        x, y = rng.uniform(0, view.width), rng.uniform(0, view.height)
        angle = rng.uniform(0, 2 * math.pi)
        width = max(2, round(side * rng.uniform(0.08, 0.22)))
        points = [(x, y)]
        for _ in range(int(rng.integers(3, 9))):
            angle += rng.uniform(-1.0, 1.0)
            x = float(np.clip(x + math.cos(angle) * side * 0.2, 0, view.width - 1))
            y = float(np.clip(y + math.sin(angle) * side * 0.2, 0, view.height - 1))
            points.append((x, y))
        draw.line(points, fill=1, width=width, joint="curve")
        if np.asarray(canvas).sum() >= wanted:
            break
    return np.asarray(canvas, np.uint8)


def _file(region: FileRegion, view: View) -> np.ndarray:
    try:
        data = Path(region.path).read_bytes()
    except OSError as error:
        raise VipError(
            f"mask {region.path} cannot be read: {error.strerror or error}", "put it back where the bank says it lies"
        ) from error
    if sha256_hex(data) != region.sha256:
        raise VipError(
            f"mask {region.path} is not the one that the bank names, {region.sha256[:12]}",
            "put that file back; a changed mask is another region: give the bank its sha256, and caption again",
        )
    with Image.open(io.BytesIO(data)) as image:
        if image.size != (view.width, view.height):
            raise VipError(
                f"mask {region.path} is {image.width}x{image.height}, the view is {view.width}x{view.height}",
                "give a mask of the size of the view",
            )
        return (np.asarray(image.convert("L")) >= 128).astype(np.uint8)
