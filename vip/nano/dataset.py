"""Drawn scenes as image files whose names carry their seeds."""

from pathlib import Path

from vip.nano.scene import TRAINING_SEEDS, make_scene
from vip.nano.truth import png
from vip.nano.world import draw

DEMO_SEED = 1_000_000
"""First seed of ``vip demo``; held out from the training of every nano model, as all below ``TRAINING_SEEDS`` are."""


def write_scenes(folder: Path, count: int, *, first_seed: int = DEMO_SEED) -> list[Path]:
    """Write ``count`` scenes as PNG files ``scene-<seed>.png``; files that are already there stay as they are.

    The same seeds give the same bytes.

    Raises:
        ValueError: where a seed was trained on.
    """
    if first_seed + count > TRAINING_SEEDS:
        raise ValueError(f"seeds from {TRAINING_SEEDS} on were trained on")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"scene-{seed}.png" for seed in range(first_seed, first_seed + count)]
    for path, seed in zip(paths, range(first_seed, first_seed + count), strict=True):
        if not path.exists():
            partial = path.with_suffix(".partial")
            partial.write_bytes(png(draw(make_scene(seed))))
            partial.replace(path)
    return paths
