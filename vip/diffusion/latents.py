"""Latents: what the frozen VAE makes of the pictures of a shard, as an artifact that every run can read.

A row holds the moments of a posterior, of which every use draws a sample of its own, as it would without the artifact.
Training knows no augmentation of pixels: crop and size are those of the view, which is part of the key.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.bank import Bank
from schemas.manifest import ArtifactRef, Manifest, Recipe
from schemas.region import Region
from schemas.tables import LATENTS
from schemas.train_config import TrainConfig
from schemas.training import ShardCaptions
from storage.store import ArtifactStore
from storage.tables import read_table, write_table
from storage.tensors import OnRow, read_row, write_rows
from vip.diffusion.census import render_image, training_images
from vip.machine import machine
from vip.regions.mask import render_mask

if TYPE_CHECKING:
    from vip.diffusion.encode import Encoder

_TABLE = "latents.parquet"


def latents_recipe(shard: ArtifactRef, vae: ArtifactRef, bank: Bank, config: TrainConfig) -> Recipe:
    """What names the latents of a shard: its pictures, the VAE and the geometries, but no captions.

    Args:
        shard: whose training split is encoded.
        vae: the model artifact of the VAE alone, so that bases with the same VAE share its latents.
        bank: what the shard is captioned with.
        config: the run; its patterns say which regions of the bank are wanted.
    """
    params = {"bank": bank.params, "regions": sorted(config.regions)}
    return Recipe(kind="latents", stage="make_latents", inputs={"shard": shard, "vae": vae}, params=params)


def make_latents(
    store: ArtifactStore,
    recipe: Recipe,
    data: ShardCaptions,
    bank: Bank,
    config: TrainConfig,
    encoder: "Encoder",
    on_row: OnRow,
) -> Manifest:
    """The ``latents`` artifact of a shard: found by its key, else encoded picture by picture.

    Args:
        recipe: of :func:`latents_recipe`.
        data: where the shard lies.
        on_row: called with the number of pictures encoded so far.

    Raises:
        VipError: where a picture cannot be read.
    """

    def build(folder: Path) -> dict[str, Any]:
        keys: list[dict[str, Any]] = []

        def rows() -> Iterator[np.ndarray]:
            for image in training_images(data.samples):
                pixels = render_image(data.tar, image, bank.view)
                keys.append({"image_sha256": image.image_sha256, "region": None})
                yield encoder.moments(pixels)
                for region in _regions(bank, image.image_sha256, config):
                    keys.append({"image_sha256": image.image_sha256, "region": region.id})
                    yield encoder.moments(pixels, render_mask(region, bank.view))

        count = write_rows(folder, rows(), on_row)
        write_table(folder / _TABLE, keys, LATENTS)
        return {
            "rows": {_TABLE: count},
            "images": sum(key["region"] is None for key in keys),
            "pictures": count,
            "machine": machine(),
        }

    return store.build(recipe, build)[0]


class Latents:
    """The rows of one ``latents`` artifact.

    Args:
        folder: a local folder with its files.
    """

    def __init__(self, folder: Path) -> None:
        table = read_table(folder / _TABLE, LATENTS)
        keys = zip(*(table.column(name).to_pylist() for name in LATENTS.names), strict=True)
        self._folder, self._rows = folder, {key: row for row, key in enumerate(keys)}

    def look_up(self, image_sha256: str, region: str) -> np.ndarray | None:
        """Moments of the whole and of the masked picture, (2, 2 * channels, h, w); None where they are not held.

        Raises:
            VipError: where they cannot be read.
        """
        rows = self._rows.get((image_sha256, None)), self._rows.get((image_sha256, region))
        return None if None in rows else np.stack([read_row(self._folder, row) for row in rows if row is not None])


def _regions(bank: Bank, image_sha256: str, config: TrainConfig) -> list[Region]:
    regions = {region.id: region for _, region in bank.pairs(image_sha256) if config.region_weight(region.id) > 0}
    return list(regions.values())
