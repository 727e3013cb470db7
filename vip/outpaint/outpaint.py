"""Outpaint: a picture, a pipeline and two texts in; larger pictures out."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from schemas.outpaint_settings import OutpaintSettings
from vip.diffusion.paste import paste_back
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.diffusion.prompt import make_prompt
from vip.diffusion.text import cut_text
from vip.outpaint.canvas import Canvas, as_rgb, make_canvas, open_picture
from vip.outpaint.painter import Painter, resized

Progress = Callable[[str, int, int], None]
"""(what, done, total)"""


class Outpainted(NamedTuple):
    """One result.

    Attributes:
        image: the whole canvas, RGB; where the picture has a colour profile, ``info`` holds it, and ``save`` writes it.
        seed: that made it.
        scales: the scales that were painted, coarse to fine; 1 = the canvas's own.
        cut: the end of a text that the model could not read, empty where it read all.
    """

    image: Image.Image
    seed: int
    scales: tuple[float, ...]
    cut: str


def outpaint(
    image: Image.Image | Path | str,
    pipeline: VIPOutpaintPipeline,
    expand: str | tuple[int, int, int, int] | None = None,
    mask: Path | str | None = None,
    center: str = "",
    surrounding: str = "",
    settings: OutpaintSettings | None = None,
    progress: Progress | None = None,
) -> list[Outpainted]:
    """Continue a picture.

    The whole canvas is first painted at the model's own size, so that it hangs together, and then refined, twice as
    large each time, by tiles that are denoised together. The picture's own pixels are pasted back and stay bit for bit,
    but for a feather at the seam.

    Args:
        image: the picture, or its path.
        pipeline: a trained pipeline.
        expand: pixels to add, left, top, right, bottom, or such a text with per cents.
        mask: instead of ``expand``: a file that is white where to generate.
        center: what the picture shows.
        surrounding: what to generate.
        settings: sampler, seeds, number of results.
        progress: called with (what, done, total).

    Returns:
        ``settings.count`` results.

    Raises:
        VipError: where picture, mask or expansion cannot work.
    """
    picture = as_rgb(image) if isinstance(image, Image.Image) else open_picture(Path(image))
    canvas = make_canvas(picture, expand, mask)
    return list(outpaint_canvas(canvas, pipeline, center, surrounding, settings or OutpaintSettings(), progress))


def outpaint_canvas(
    canvas: Canvas,
    pipeline: VIPOutpaintPipeline,
    center: str,
    surrounding: str,
    settings: OutpaintSettings,
    progress: Progress | None = None,
) -> Iterator[Outpainted]:
    """Continue what is known of a canvas; see :func:`outpaint`. Every result is painted when it is asked for."""
    painter = Painter(pipeline, center, surrounding, settings.guidance)
    sizes = plan_sizes(painter, canvas, settings)
    # The total holds both halves with their labels, so that it loses an end first, and every end that a half loses.
    cut = cut_text(pipeline.tokenizer, make_prompt(center, surrounding).total)
    for number in range(settings.count):

        def step(what: str, done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(f"picture {number + 1} of {settings.count}, {what}", done, total)

        seed = settings.seed + number
        image = Image.fromarray(_paint(painter, canvas, sizes, settings, seed, step))
        image.info = {"icc_profile": canvas.profile} if canvas.profile else {}
        yield Outpainted(
            image,
            seed,
            tuple(round(height / canvas.mask.shape[0], 3) for height, _ in sizes),
            cut,
        )


def plan_sizes(painter: Painter, canvas: Canvas, settings: OutpaintSettings) -> list[tuple[int, int]]:
    """(height, width) of every painting, coarse to fine; the first has about the model's own number of pixels."""
    height, width = canvas.mask.shape
    side = painter.tile * painter.cell
    first = side / (height * width) ** 0.5
    sizes = [_size(height, width, first)]
    if settings.tiles == 0 or settings.strength == 0:
        return sizes
    finest = 1.0
    while (
        finest > first
        and _most_tiles(painter, covering_mask(canvas.mask, *_size(height, width, finest))) > settings.tiles
    ):
        finest *= 0.92
    scale = first
    while scale * 1.25 < finest:
        scale = min(2 * scale, finest)
        sizes.append(_size(height, width, scale))
    return sizes


def _most_tiles(painter: Painter, mask: np.ndarray) -> int:
    return max(len(painter.tiles(mask, shifted)) for shifted in (False, True))


def _paint(
    painter: Painter,
    canvas: Canvas,
    sizes: list[tuple[int, int]],
    settings: OutpaintSettings,
    seed: int,
    step: Progress,
) -> np.ndarray:
    generator = torch.Generator("cpu").manual_seed(seed)
    painted = canvas.pixels
    for number, (height, width) in enumerate(sizes, 1):
        mask = covering_mask(canvas.mask, height, width)
        known = np.where(mask[..., None] == 1, np.uint8(0), resized(_filled(canvas), height, width))
        start = np.where(mask[..., None] == 1, resized(painted, height, width), known) if number > 1 else None
        painted = painter.paint(
            known,
            mask,
            settings.steps,
            generator,
            start,
            settings.strength,
            partial(step, f"pass {number} of {len(sizes)}"),
        )
    height, width = canvas.mask.shape
    scale = height / sizes[-1][0]
    feather = settings.feather if settings.feather is not None else round(painter.cell / 2 * max(1.0, scale))
    whole = resized(painted, height, width)
    return paste_back(whole[None], canvas.pixels[None], canvas.mask[None], feather)[0]


def _filled(canvas: Canvas) -> np.ndarray:
    """The canvas with the mean of the known pixels where nothing is known, so that resizing rings less at the seam."""
    mean = canvas.pixels[canvas.mask == 0].mean(axis=0)
    return np.where(canvas.mask[..., None] == 1, np.rint(mean).astype(np.uint8), canvas.pixels)


def covering_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask at another size; a pixel that is unknown in any part is generated, never taken for known."""
    if mask.shape == (height, width):
        return mask
    small = Image.fromarray(mask * np.uint8(255)).resize((width, height), Image.Resampling.BOX)
    return (np.asarray(small) > 0).astype(np.uint8)


def _size(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(8, round(height * scale)), max(8, round(width * scale))
