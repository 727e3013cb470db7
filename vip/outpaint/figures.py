"""The pictures of ``docs/outpaint.md``: ``python -m vip.outpaint.figures --out docs/outpaint``.

A photograph (scikit-learn's of a temple, enlarged to 1,920 x 1,080) and drawn scenes, continued by the nano base with
fresh branches; prints what it checked of them.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from schemas.outpaint_settings import OutpaintSettings
from storage.models import nano_folder
from vip.diffusion.load import quiet
from vip.diffusion.paste import feather_weights
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.nano.dataset import DEMO_SEED
from vip.nano.scene import make_scene
from vip.nano.truth import truth
from vip.nano.world import draw
from vip.outpaint.borders import between, edges_of, elsewhere, strongest_step
from vip.outpaint.canvas import Canvas, expanded
from vip.outpaint.outpaint import covering_mask, outpaint_canvas, plan_sizes
from vip.outpaint.painter import Painter

_LINE = (255, 64, 64)


def base_pipeline(base: str = "nano") -> VIPOutpaintPipeline:
    """The base as it is: fresh branches change nothing."""
    folder = nano_folder("base") if base == "nano" else Path(base)
    with quiet():
        pipeline = VIPOutpaintPipeline.from_base(str(folder), branches="key_value", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def photograph() -> Image.Image:
    """1,920 x 1,080, RGB."""
    from sklearn.datasets import load_sample_image

    own = Image.fromarray(load_sample_image("china.jpg"))
    tall = own.width * 9 // 16
    top = (own.height - tall) // 2
    return own.crop((0, top, own.width, top + tall)).resize((1920, 1080), Image.Resampling.LANCZOS)


def checked(
    name: str, canvas: Canvas, pipeline: VIPOutpaintPipeline, texts: tuple[str, str], settings: OutpaintSettings
) -> np.ndarray:
    """Continue a canvas and print what is true of the result."""
    started = time.monotonic()
    (made,) = outpaint_canvas(canvas, pipeline, *texts, settings)
    seconds = time.monotonic() - started
    result = np.asarray(made.image)
    weights = feather_weights(torch.from_numpy(canvas.mask.astype(np.float32))[None, None], settings.feather or 0)
    kept = weights[0, 0].numpy() == 0
    painter = Painter(pipeline, *texts, settings.guidance)
    sizes = plan_sizes(painter, canvas, settings)
    mask = covering_mask(canvas.mask, *sizes[-1])
    tiles = [*painter.tiles(mask), *painter.tiles(mask, shifted=True)]
    lines = edges_of(tiles, sizes[-1], canvas.mask.shape, painter.cell)
    sys.stdout.write(
        f"{name}: {canvas.mask.shape[1]}x{canvas.mask.shape[0]}, passes {sizes}, "
        f"{len(painter.tiles(mask))} tiles, {seconds:.0f} s\n"
        f"  kept pixels bit-exact outside the feather of {settings.feather}: "
        f"{bool((result[kept] == canvas.pixels[kept]).all())}, {kept.mean():.1%} of the canvas\n"
        f"  strongest step at a tile's edge {strongest_step(result, canvas.mask, lines):.2f}, "
        f"between them {strongest_step(result, canvas.mask, between(lines)):.2f}, "
        f"anywhere else {strongest_step(result, canvas.mask, elsewhere(lines, canvas.mask.shape)):.2f}\n"
    )
    sys.stdout.flush()
    return result


def framed(picture: np.ndarray, canvas: Canvas, scale: float, line: int) -> Image.Image:
    """The result at another size with a line around what was known."""
    rows, columns = np.nonzero(canvas.mask == 0)
    box = [round(scale * value) for value in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)]
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    image = np.array(Image.fromarray(picture).resize(size, how))
    inner = image[box[0] : box[1], box[2] : box[3]].copy()
    image[box[0] - line : box[1] + line, box[2] - line : box[3] + line] = _LINE
    image[box[0] : box[1], box[2] : box[3]] = inner
    return Image.fromarray(image)


def write_photograph(pipeline: VIPOutpaintPipeline, out: Path, tiles: int, steps: int) -> None:
    """A photograph, 160 pixels more on every side."""
    canvas = expanded(photograph(), 160, 160, 160, 160)
    settings = OutpaintSettings(steps=steps, tiles=tiles, strength=0.2, feather=16, guidance=2.0)
    result = checked("photograph", canvas, pipeline, ("tower", "sea, morning, fog"), settings)
    framed(result, canvas, 0.4, 1).save(out / "photograph.jpg", quality=82)
    # At full size, a corner of the kept part: what nobody should find is the seam.
    Image.fromarray(result[40:360, 40:520]).save(out / "photograph-corner.jpg", quality=85)


def write_scenes(pipeline: VIPOutpaintPipeline, out: Path, steps: int, count: int = 4) -> None:
    """Drawn scenes of 64 x 64, 32 pixels more on either side and 16 above and below: twice the model's size across."""
    rows = []
    for seed in range(DEMO_SEED, DEMO_SEED + count):
        scene = make_scene(seed)
        canvas = expanded(Image.fromarray(draw(scene)), 32, 16, 32, 16)
        settings = OutpaintSettings(steps=steps, feather=2, seed=seed)
        told = truth(scene, np.pad(np.zeros((32, 32), np.uint8), 16, constant_values=1))
        texts = (", ".join(told.centre), ", ".join((scene.terrain, scene.time, scene.weather)))
        result = checked(f"scene {seed} ({texts[0]}; {texts[1]})", canvas, pipeline, texts, settings)
        rows.append(np.asarray(framed(result, canvas, 2.0, 1)))
    pairs = [np.concatenate(rows[first : first + 2], axis=1) for first in range(0, count, 2)]
    Image.fromarray(np.concatenate(pairs)).save(out / "scenes.png", optimize=True)


def main() -> None:
    """Write them all."""
    parser = argparse.ArgumentParser(prog="python -m vip.outpaint.figures", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/outpaint"))
    parser.add_argument("--base", default="nano")
    parser.add_argument("--tiles", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=("photograph", "scenes"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    pipeline = base_pipeline(given.base)
    if given.only != "photograph":
        write_scenes(pipeline, given.out, given.steps)
    if given.only != "scenes":
        write_photograph(pipeline, given.out, given.tiles, given.steps)


if __name__ == "__main__":
    main()
