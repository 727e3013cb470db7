"""The pictures of a report: original, known part, and what was made of it in every setting."""

import base64
import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from schemas.manifest import Manifest
from schemas.region import View, read_region
from schemas.tables import GENERATED, SAMPLES
from storage.shards import read_one
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.evaluation.features import read_generated
from vip.evaluation.sample import TABLE
from vip.regions.mask import render_mask
from vip.regions.view import render_view


class Made(NamedTuple):
    """One generated picture (a data URI) and what the model was told."""

    setting: str
    picture: str
    center: str
    surrounding: str
    caption_id: str


class Example(NamedTuple):
    """One image of the exam, as data URIs."""

    image_sha256: str
    original: str
    known: str
    made: list[Made]


def examples(store: ArtifactStore, samples: Mapping[str, Manifest], count: int) -> list[Example]:
    """The first ``count`` images of the exam in the order of their keys, which is to say: not chosen.

    Args:
        store: where the artifacts lie.
        samples: setting -> its first ``samples`` artifact; all hold the same images.
        count: how many.
    """
    rows = {
        setting: read_table(store.read(made, TABLE), GENERATED).slice(0, count).to_pylist()
        for setting, made in samples.items()
    }
    pictures = {}
    for setting, made in samples.items():
        wanted = {row["image_sha256"] for row in rows[setting]}
        pictures[setting] = {sha: pixels for sha, pixels in read_generated(store, made) if sha in wanted}
    first = next(iter(rows))
    masks = samples[first].stats.get("masks")
    found = []
    for place, row in enumerate(rows[first]):
        sha = row["image_sha256"]
        view = View.model_validate_json(row["view_json"])
        mask = render_mask(read_region(row["region_json"], masks), view)
        real = render_view(_original(store, samples[first], sha), view)
        made_here = [
            Made(
                setting,
                data_uri(pictures[setting][sha]),
                told[place]["center_prompt"],
                told[place]["surrounding_prompt"],
                told[place]["caption_id"] or "",
            )
            for setting, told in rows.items()
        ]
        found.append(Example(sha, data_uri(real), data_uri(_known(real, mask)), made_here))
    return found


def data_uri(pixels: np.ndarray) -> str:
    """uint8 (height, width, 3 or 4) as a data URI: PNG, or JPEG for opaque pictures above 128 pixels."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if max(image.size) > 128 and image.mode == "RGB":
        image.save(buffer, "JPEG", quality=90)
        kind = "jpeg"
    else:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _known(real: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The known part; what is to be generated is left transparent, and the page lays its own pattern under it."""
    return np.dstack([real, np.where(mask == 1, 0, 255).astype(np.uint8)])


def _original(store: ArtifactStore, samples: Manifest, image_sha256: str) -> bytes:
    for role, ref in samples.inputs.items():
        if role.startswith("shard/"):
            shard = store.require(ref)
            table = read_table(store.read(shard, "samples.parquet"), SAMPLES)
            for row in table.to_pylist():
                if row["image_sha256"] == image_sha256:
                    return read_one(store, shard, row)
    raise KeyError(image_sha256)
