"""Census: shards joined with their captions, and what can be trained on."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import UnidentifiedImageError

from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.region import View
from schemas.tables import CAPTIONS, SAMPLES
from schemas.train_config import TrainConfig
from schemas.training import ShardCaptions
from storage.items import RangePlace, open_binary
from storage.remote import is_url
from storage.tables import read_table
from vip.regions.view import render_view

_SAMPLE_COLUMNS = ["image_sha256", "split", "offset", "bytes"]
_CAPTION_COLUMNS = ["caption_id", "image_sha256", "view", "region", "region_json", "centre", "surrounding", "total"]


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption of one (image, region); texts and geometry come from one row and cannot be mixed up."""

    caption_id: str
    region: str
    region_json: str
    centre: str
    surrounding: str
    total: str
    weight: float


@dataclass(frozen=True, slots=True)
class Example:
    """One image of the training split and the captions it may be trained with; none = trained without text."""

    image_sha256: str
    offset: int
    bytes: int
    captions: tuple[Caption, ...] = ()
    without_text: bool = False


@dataclass(frozen=True)
class Census:
    """Counts over all shards; what a plan needs, and no texts.

    Attributes:
        counts: usable images of each shard, in the order of the shards.
        pairs: captioned (image, region) pairs in use.
        missing: images of the training split without a usable caption.
        regions: region id (brushes without their seed) -> pairs.
        fingerprint: hash over the images and captions in use.
    """

    counts: tuple[int, ...]
    pairs: int
    missing: int
    regions: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""


def load_shard(shard: ShardCaptions, config: TrainConfig) -> tuple[list[Example], int]:
    """Join one shard with its captions.

    Returns:
        The usable examples in the order of their keys, and the number of training images without a usable caption.

    Raises:
        VipError: where a table cannot be read, or a caption is missing and the config says that this is an error.
    """
    captions = defaultdict(list)
    for row in _table(shard.captions, CAPTIONS, _CAPTION_COLUMNS, "the captions"):
        weight = config.region_weight(row["region"])
        if row["view"] == config.view.id and weight > 0:
            texts = (row["centre"], row["surrounding"], row["total"])
            caption = Caption(row["caption_id"], row["region"], row["region_json"], *texts, weight)
            captions[row["image_sha256"]].append(caption)
    spare = _spare_geometry([caption for rows in captions.values() for caption in rows])
    examples, missing = [], 0
    for image in training_images(shard.samples):
        found = tuple(sorted(captions.get(image.image_sha256, ()), key=lambda caption: caption.region))
        missing += not found
        if not found and config.missing_caption == "error":
            raise VipError(
                f"image {image.image_sha256} has no {config.view.id} caption",
                "caption it, or set missing_caption to drop or unconditional",
            )
        if found or (config.missing_caption == "unconditional" and spare is not None):
            usable = found or (spare,) if spare is not None else found
            examples.append(replace(image, captions=usable, without_text=not found))
    return examples, missing


def training_images(samples: str) -> list[Example]:
    """The images of the training split of a shard, by ascending key, without captions.

    Args:
        samples: the shard's samples table, as a local path or URL.

    Raises:
        VipError: where it cannot be read.
    """
    images = []
    for row in _table(samples, SAMPLES, _SAMPLE_COLUMNS, "the samples"):
        if row["split"] != "train":
            continue
        if row["offset"] is None:
            raise VipError(f"{samples} holds no offsets", "run `vip shard` again")
        images.append(Example(row["image_sha256"], row["offset"], row["bytes"]))
    return sorted(images, key=lambda image: image.image_sha256)


def render_image(tar: str, image: Example, view: View) -> np.ndarray:
    """The pixels of one image of a shard: (height, width, 3) uint8.

    Raises:
        VipError: where it cannot be read; it names the image.
    """
    data = RangePlace(tar, image.offset, image.bytes).read()
    try:
        return render_view(data, view)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise VipError(
            f"image {image.image_sha256} in {tar} cannot be read: {error}", "run `vip audit verify`"
        ) from error


def take_census(shards: Sequence[ShardCaptions], config: TrainConfig) -> Census:
    """Count what can be trained on, one shard in memory at a time; nothing of a dataset that the config leaves out.

    Raises:
        VipError: where nothing can be trained on, or nothing of a dataset that the config names, a pattern matches
            nothing, or the data do not suit the regime.
    """
    counts, pairs, missing = [], 0, 0
    regions: Counter[str] = Counter()
    usable: Counter[str] = Counter()
    marks = []
    for shard in shards:
        if config.datasets and shard.dataset not in config.datasets:
            counts.append(0)
            continue
        examples, without = load_shard(shard, config)
        counts.append(len(examples))
        usable[shard.dataset] += len(examples)
        missing += without
        captioned = [caption for example in examples if not example.without_text for caption in example.captions]
        pairs += len(captioned)
        regions.update(_kind(caption.region) for caption in captioned)
        marks.append(
            [
                shard.dataset,
                [[example.image_sha256, [caption.caption_id for caption in example.captions]] for example in examples],
            ]
        )
    _check(shards, config, usable, regions)
    return Census(tuple(counts), pairs, missing, dict(sorted(regions.items())), fingerprint(marks)[:16])


def _check(shards: Sequence[ShardCaptions], config: TrainConfig, usable: Counter[str], regions: Counter[str]) -> None:
    names = {shard.dataset for shard in shards}
    unknown = sorted(set(config.datasets) - names)
    if unknown:
        raise VipError(f"dataset {unknown[0]} is not among the data", f"name one of: {', '.join(sorted(names))}")
    wanted = {name: usable[name] for name in sorted(config.datasets)} or {"": usable.total()}
    for name, images in wanted.items():
        if not images:
            raise VipError(
                (f"dataset {name} has " if name else "")
                + f"no captions of view {config.view.id}"
                + (f" and regions {', '.join(config.regions)}" if config.regions else ""),
                "caption this view, or train on one that is there: "
                + _present([shard for shard in shards if name in ("", shard.dataset)]),
            )
    for pattern in config.regions:
        alone = config.model_copy(update={"regions": {pattern: 1.0}})
        if not any(alone.region_weight(region) or alone.region_weight(f"{region}-s0") for region in regions):
            raise VipError(f"no caption has a region like {pattern}", f"there are: {', '.join(sorted(regions))}")
    if config.regime == "sft" and len(regions) > 1:
        raise VipError(
            f"regime sft trains on one region, the captions have {', '.join(sorted(regions))}",
            "name one under regions, or set regime: glt",
        )
    if config.regime == "sft" and len(names) > 1 and not config.datasets:
        raise VipError(
            f"regime sft trains on one dataset, there are {', '.join(sorted(names))}", "name one, or set regime: glt"
        )


def _present(shards: Sequence[ShardCaptions]) -> str:
    found: set[str] = set()
    for shard in shards:
        for row in _table(shard.captions, CAPTIONS, ["view", "region"], "the captions"):
            found.add(f"{row['view']} {_kind(row['region'])}")
    return ", ".join(sorted(found)) or "none at all; run `vip caption` first"


def _kind(region: str) -> str:
    """A region id without the seed that every image has for itself."""
    return region.rpartition("-s")[0] if region.startswith("brush-") else region


def _spare_geometry(captions: list[Caption]) -> Caption | None:
    """A geometry of this shard for images without a caption, with empty texts; the same one every time."""
    if not captions:
        return None
    first = min(captions, key=lambda caption: (caption.region, caption.caption_id))
    return Caption("", first.region, json.dumps(json.loads(first.region_json)), "", "", "", 1.0)


def _table(where: str, schema: pa.Schema, columns: list[str], what: str) -> list[dict[str, Any]]:
    try:
        if is_url(where):
            with open_binary(where) as file:
                source: bytes | Path = file.read()
        else:
            source = Path(where)
        return read_table(source, schema, columns).to_pylist()
    except FileNotFoundError:
        raise VipError(f"{what} {where} are not there", "run the stage that makes them") from None
