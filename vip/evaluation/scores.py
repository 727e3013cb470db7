"""Scores: what the scorers of an exam say of every picture, kept like features."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from schemas.evaluate_config import EvaluateConfig
from schemas.manifest import Manifest, Recipe
from schemas.tables import GENERATED, IMAGE_METRICS
from storage.store import ArtifactStore
from storage.tables import read_table, write_table
from vip.evaluation.exam import Item
from vip.evaluation.features import read_generated
from vip.evaluation.sample import TABLE, Progress, originals
from vip.evaluation.scorer import Scorer, Shown
from vip.machine import machine
from vip.regions.mask import render_mask

SCORES = "scores.parquet"
_BATCH = 32


def load_scorers(config: EvaluateConfig) -> dict[str, Scorer]:
    """The scorers that an exam asks for.

    Raises:
        VipError: where weights are missing or of another network.
    """
    found: dict[str, Scorer] = {}
    if config.clip:
        from storage.models import find_model
        from vip.evaluation.clip_score import ClipScore

        found["clip"] = ClipScore(find_model(config.clip, "base"))
    if config.lpips:
        from vip.evaluation.lpips import Lpips

        found["lpips"] = Lpips(Path(config.lpips).expanduser())
    return found


def make_scores(
    store: ArtifactStore, scorer: Scorer, samples: Manifest, items: Iterable[Item], progress: Progress
) -> Manifest:
    """Judge the pictures of a ``samples`` artifact, or find what was said of them.

    Returns:
        A ``features`` artifact with ``scores.parquet`` (schema ``IMAGE_METRICS``).
    """
    by_key = {item.image_sha256: item for item in items}
    recipe = Recipe(
        kind="features",
        stage="scores",
        inputs={"samples": samples.ref},
        params={"network": {"name": scorer.name, "digest": scorer.digest}},
    )

    def build(folder: Path) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        total, done = int(samples.stats["images"]), 0
        for keys, shown in _shown(store, samples, by_key):
            progress(f"{scorer.name}, {samples.params['setting']}", done, total)
            for metric, values in scorer(shown).items():
                rows += [
                    {"image_sha256": key, "setting": samples.params["setting"], "metric": metric, "value": value}
                    for key, value in zip(keys, values, strict=True)
                ]
            done += len(keys)
        written = {SCORES: write_table(folder / SCORES, rows, IMAGE_METRICS)}
        return {"rows": written, "images": done, "machine": machine()}

    return store.build(recipe, build)[0]


def read_scores(store: ArtifactStore, made: Iterable[Manifest]) -> Iterator[dict[str, Any]]:
    """The rows of several of them, one artifact in memory at a time."""
    for one in made:
        yield from read_table(store.read(one, SCORES), IMAGE_METRICS).to_pylist()


def _shown(store: ArtifactStore, samples: Manifest, items: Mapping[str, Item]) -> Iterator[tuple[list[str], Shown]]:
    rows = iter(read_table(store.read(samples, TABLE), GENERATED).to_pylist())
    pictures = zip(read_generated(store, samples, "pasted"), read_generated(store, samples, "unpasted"), strict=True)
    while batch := list(islice(zip(rows, pictures, strict=False), _BATCH)):
        own = [items[row["image_sha256"]] for row, _ in batch]
        yield (
            [item.image_sha256 for item in own],
            Shown(
                originals(store, own),
                np.stack([pasted for _, ((_, pasted), _) in batch]),
                np.stack([unpasted for _, (_, (_, unpasted)) in batch]),
                np.stack([render_mask(item.region, item.view) for item in own]),
                [(row["center_prompt"], row["surrounding_prompt"]) for row, _ in batch],
            ),
        )
