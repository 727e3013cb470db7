"""What is measured on every image of its own, a few pictures in memory at a time."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from schemas.manifest import Manifest
from schemas.tables import GENERATED
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.evaluation.exam import Item, Text
from vip.evaluation.features import read_generated
from vip.evaluation.known_part import known_exact, ssim_known
from vip.evaluation.obedience import NanoProbe, obedience_of, words_seen
from vip.evaluation.sample import TABLE, originals
from vip.evaluation.seam import seam_error
from vip.regions.mask import render_mask

UNITS: Mapping[str, str] = {
    "psnr_known_unpasted": "dB, 100 = identical",
    "psnr_known_pasted": "dB, 100 = identical",
    "known_part_exact": "share of images",
    "ssim_known_unpasted": "1 = identical",
    "seam_error": "grey levels above the original's",
    "obedience": "share of the words asked for",
    "contamination": "share of the places it could show",
}
"""Metric -> unit, in the order of a table."""


_BATCH = 32


def image_rows(
    store: ArtifactStore,
    setting: str,
    items: Sequence[Item],
    samples: Sequence[Manifest],
    probe: NanoProbe | None,
    truth: Mapping[str, Text],
) -> Iterator[dict[str, Any]]:
    """Rows of ``IMAGE_METRICS`` for the pictures of one setting.

    Args:
        store: where the pictures lie.
        setting: what they were made under.
        items: the images of the exam, in the order of the samples.
        samples: the ``samples`` artifacts of the setting.
        probe: reads the words off pictures of the drawn world.
        truth: image -> texts that stand in where the model was told nothing, which gives the level of chance.
    """
    by_key = {item.image_sha256: item for item in items}
    for made in samples:
        rows = iter(read_table(store.read(made, TABLE), GENERATED).to_pylist())
        pictures = zip(read_generated(store, made, "pasted"), read_generated(store, made, "unpasted"), strict=True)
        while batch := list(islice(zip(rows, pictures, strict=False), _BATCH)):
            real = originals(store, [by_key[row["image_sha256"]] for row, _ in batch])
            seen = words_seen(probe(np.stack([pasted for _, ((_, pasted), _) in batch]))) if probe else []
            for place, (row, ((sha, pasted), (_, unpasted))) in enumerate(batch):
                mask = render_mask(by_key[sha].region, by_key[sha].view)
                values: dict[str, float | None] = {
                    "psnr_known_unpasted": row["psnr_known_unpasted"],
                    "psnr_known_pasted": row["psnr_known_pasted"],
                    "known_part_exact": float(known_exact(real[place], pasted, mask)),
                    "ssim_known_unpasted": ssim_known(real[place], unpasted, mask),
                    "seam_error": seam_error(real[place], pasted, mask),
                }
                if probe:
                    found = obedience_of(*_told(row, truth.get(sha)), seen[place])
                    values |= {"obedience": found.obeyed, "contamination": found.contaminated}
                for metric, value in values.items():
                    yield {"image_sha256": sha, "setting": setting, "metric": metric, "value": value}


def _told(row: Mapping[str, Any], truth: Text | None) -> tuple[str, str]:
    center, surrounding = row["center_prompt"], row["surrounding_prompt"]
    if (center or surrounding) or truth is None:
        return center, surrounding
    return truth.center, truth.surrounding


class Values:
    """The values of every metric under every setting, taken from rows as they pass: eight bytes each."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], array[float]] = defaultdict(lambda: array("d"))

    def passing(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Hand rows of ``IMAGE_METRICS`` on."""
        for row in rows:
            if row["value"] is not None:
                self._found[row["setting"], row["metric"]].append(row["value"])
            yield row

    def of(self, setting: str, metric: str) -> np.ndarray:
        """The values of one metric, float64 (images,); images without one are left out."""
        return np.array(self._found.get((setting, metric), ()), np.float64)
