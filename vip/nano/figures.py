"""The pictures of ``docs/nano.md``, curves and grids of samples: ``python -m vip.nano.figures --out docs/nano``."""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from storage.models import nano_folder
from vip.nano.instructions import blank
from vip.nano.regions import DEFAULT, mask_of
from vip.nano.scene import make_scene
from vip.nano.truth import truth

_CURVES = {
    "autoencoder": "psnr",
    "text-encoder": "named",
    "captioner": "tokens_right",
    "probe": "drawn",
    "base": "loss",
}


def curves(weights: dict[str, Path], out: Path) -> None:
    """Plot one figure of each part over its steps.

    Args:
        weights: part -> its ``curve.jsonl``.
        out: PNG file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots(2, 3).flat
    axes[-1].set_axis_off()
    for axis, (part, name) in zip(axes, _CURVES.items(), strict=False):
        points = [json.loads(line) for line in weights[part].read_text().splitlines()]
        axis.plot([p["step"] for p in points], [p[name] for p in points], linewidth=1)
        axis.set_title(f"{part}: {name}")
        axis.set_xlabel("step")
    figure.savefig(out, dpi=80)


def world_grid(out: Path, rows: int = 5, columns: int = 10) -> None:
    """Drawn scenes of the seeds from 0."""
    from vip.nano.world import draw_seeds

    pictures = draw_seeds(range(rows * columns)).reshape(rows, columns, 64, 64, 3)
    _save(pictures, out)


def sample_grid(out: Path, seeds: range, guidance: float) -> list[str]:
    """Per scene: drawn, what is kept, painted with its text, painted with the next scene's surrounding text.

    Returns:
        The prompts of the third and fourth column, one string per scene.
    """
    from vip.nano.score_base import inpaint, load_base, pictures_of

    pipeline = load_base(nano_folder("base"))
    pictures, _ = pictures_of(seeds)
    mask = mask_of(DEFAULT)
    facts = [truth(make_scene(seed), mask) for seed in seeds]
    own = [fact.text for fact in facts]
    other = [
        type(fact)(fact.centre, following.surrounding).text
        for fact, following in zip(facts, [*facts[1:], facts[0]], strict=True)
    ]
    kept = np.stack([blank(picture, mask, part=1) for picture in pictures])
    painted = inpaint(pipeline, pictures, own, guidance=guidance)
    turned = inpaint(pipeline, pictures, other, guidance=guidance)
    _save(np.stack([pictures, kept, painted, turned]), out)
    return [f"{a} | {b}" for a, b in zip(own, other, strict=True)]


def _save(pictures: np.ndarray, out: Path, scale: int = 2) -> None:
    rows, columns = pictures.shape[:2]
    sheet = pictures.transpose(0, 2, 1, 3, 4).reshape(rows * 64, columns * 64, 3)
    image = Image.fromarray(sheet)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(out, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """Draw everything."""
    from vip.nano.score_base import GUIDANCE

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    paths = {part: nano_folder(part) / "curve.jsonl" for part in ("captioner", "probe", "base")}
    paths |= {part: nano_folder("base") / f"curve-{part}.jsonl" for part in ("autoencoder", "text-encoder")}
    curves(paths, given.out / "curves.png")
    world_grid(given.out / "world.png")
    prompts = sample_grid(given.out / "samples.png", range(12), GUIDANCE)
    (given.out / "samples.txt").write_text("\n".join(prompts) + "\n")


if __name__ == "__main__":
    main()
