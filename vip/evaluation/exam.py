"""Exam: the images, regions and texts that a setting is examined with."""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from schemas.bank import Bank
from schemas.errors import VipError
from schemas.evaluate_config import PROMPTS_OF, EvaluateConfig
from schemas.manifest import ArtifactRef, Manifest
from schemas.region import BrushRegion, Region, View, alike, read_region
from schemas.tables import CAPTIONS, SAMPLES
from storage.store import ArtifactStore
from storage.tables import read_table

ALONGSIDE = "alongside/"


class Text(NamedTuple):
    """A caption of one image, and the artifact that holds it."""

    caption_id: str
    center: str
    surrounding: str
    source: ArtifactRef


class Item(NamedTuple):
    """One image of the exam: its row of the shard's table, its shard, and what is known of it."""

    image_sha256: str
    sample: dict[str, Any]
    shard: ArtifactRef
    view: View
    region: Region


class Exam(NamedTuple):
    """What is examined, the same images in every setting, sorted by key.

    Attributes:
        items: the images.
        texts: prompt set -> image -> caption.
        spare: images of the dataset outside the exam, in the order in which the real-against-real floor takes them.
        without_caption: images of the split that some prompt set says nothing about (rejected captions).
    """

    items: list[Item]
    texts: dict[str, dict[str, Text]]
    spare: list[Item]
    without_caption: int


def read_exam(
    store: ArtifactStore, config: EvaluateConfig, dataset: Manifest, prompt_sets: Mapping[str, Manifest]
) -> Exam:
    """Pin down the exam.

    Args:
        store: where the artifacts lie.
        config: the exam as asked for.
        dataset: whose images are taken.
        prompt_sets: ``oracle`` and ``centre_only``, as far as the settings use them, each of that dataset; under names
            that begin with ``ALONGSIDE``, further ones that must have a caption of every image.

    Raises:
        VipError: where a prompt set is missing, or fewer than two images are left.
    """
    missing = [name for name in config.needs if name not in prompt_sets]
    if missing:
        raise VipError(
            f"the settings need captions of the kind '{missing[0]}', and none were given",
            f"caption the {config.split} split with such a spec, or leave the setting out",
        )
    view, region = config.geometry
    samples = _samples(store, dataset)
    texts: dict[str, dict[str, Text]] = {}
    regions: dict[str, Region] = {}
    for name in config.needs:
        texts[name], found = _captions(store, prompt_sets[name], view, region)
        # The mask that was captioned is the mask that is examined, so the first prompt set decides on brush strokes.
        regions = regions or found
    beside = [
        _captions(store, given, view, region)[0] for name, given in prompt_sets.items() if name.startswith(ALONGSIDE)
    ]
    bank = Bank(view=view, regions=(region,), seed=config.seed)
    of_split = sorted(sha for sha, (row, _) in samples.items() if row["split"] == config.split)
    usable = [sha for sha in of_split if all(sha in captions for captions in (*texts.values(), *beside))]
    chosen = usable[: config.images]
    if len(chosen) < 2:
        raise VipError(
            f"{len(chosen)} images of the {config.split} split have captions for {view.id} {region.id}",
            "an exam needs at least two: caption that split with this view and region, or choose another preset",
        )

    def item(sha: str) -> Item:
        row, shard = samples[sha]
        return Item(sha, row, shard, view, regions.get(sha) or bank.pairs(sha)[0][1])

    taken = set(chosen)
    rest = [sha for sha in of_split if sha not in taken]
    others = sorted(sha for sha in samples if sha not in taken and samples[sha][0]["split"] != config.split)
    spare = [item(sha) for sha in (rest + others)[: len(chosen)]]
    return Exam([item(sha) for sha in chosen], texts, spare, len(of_split) - len(usable))


def texts_of(exam: Exam, config: EvaluateConfig, setting: str) -> dict[str, Text | None]:
    """Image -> the caption that a setting tells the model; None where it tells nothing.

    The controls take true captions to the wrong place: ``swapped`` exchanges the halves, ``shuffled`` gives every image
    the caption of another.
    """
    name = PROMPTS_OF[setting]
    if not name:
        return {item.image_sha256: None for item in exam.items}
    own = {item.image_sha256: exam.texts[name][item.image_sha256] for item in exam.items}
    if setting == "control:swapped":
        return {sha: text._replace(center=text.surrounding, surrounding=text.center) for sha, text in own.items()}
    if setting == "control:shuffled":
        order = list(own)
        random.Random(config.seed).shuffle(order)
        return {sha: own[donor] for sha, donor in zip(order, order[1:] + order[:1], strict=True)}
    return dict(own)


def _samples(store: ArtifactStore, dataset: Manifest) -> dict[str, tuple[dict[str, Any], ArtifactRef]]:
    found = {}
    for role, ref in dataset.inputs.items():
        if role.startswith("shard/"):
            data = store.read(store.require(ref), "samples.parquet")
            for row in read_table(data, SAMPLES).to_pylist():
                found[row["image_sha256"]] = (row, ref)
    return found


def _captions(
    store: ArtifactStore, caption_set: Manifest, view: View, region: Region
) -> tuple[dict[str, Text], dict[str, Region]]:
    texts: dict[str, Text] = {}
    regions: dict[str, Region] = {}
    for role, ref in sorted(caption_set.inputs.items()):
        if not role.startswith("captions/"):
            continue
        table = read_table(store.read(store.require(ref), "captions.parquet"), CAPTIONS)
        for row in table.select(
            ["image_sha256", "caption_id", "view", "region_json", "centre", "surrounding"]
        ).to_pylist():
            sha = row["image_sha256"]
            if row["view"] != view.id or sha in texts:
                continue
            captioned = read_region(row["region_json"])
            if alike(captioned, region):
                texts[sha] = Text(row["caption_id"], row["centre"], row["surrounding"], ref)
                # The strokes are those that were captioned; a mask file lies where the exam says.
                regions[sha] = captioned if isinstance(captioned, BrushRegion) else region
    return texts, regions
