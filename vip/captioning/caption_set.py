"""Caption set: the captions of a whole dataset by one spec."""

from pathlib import Path
from typing import Any

from schemas.canonical import canonical_json
from schemas.errors import VipError
from schemas.manifest import Manifest, Recipe
from storage.store import ArtifactStore
from vip.captioning.plan import dataset_shards


def make_caption_set(store: ArtifactStore, dataset: Manifest, captions: list[Manifest]) -> Manifest:
    """Join the captions of a dataset's shards.

    Args:
        captions: one for each shard of the dataset, all by one spec, bank and round.

    Raises:
        VipError: where shards are missing or captions of several specs are mixed.
    """
    by_shard = {manifest.inputs["shard"].digest: manifest for manifest in captions}
    inputs = {}
    for prefix, ref in dataset_shards(dataset).items():
        if ref.digest not in by_shard:
            raise VipError(f"shard {prefix} has no captions", "run `vip caption` again")
        inputs[f"captions/{prefix}"] = by_shard[ref.digest].ref
    if not captions:
        raise VipError("a caption set needs captions", "give a dataset with at least one shard")
    settings = {canonical_json(manifest.params) for manifest in captions}
    if len(settings) != 1:
        raise VipError("captions of several specs, banks or rounds are not one set", "make a set of each")
    first = captions[0]
    params = {"spec_id": first.stats["spec_id"], "bank": first.params["bank"], "round": first.params["round"]}
    recipe = Recipe(kind="caption_set", stage="make_caption_set", inputs=inputs, params=params)

    def build(folder: Path) -> dict[str, Any]:
        reasons: dict[str, int] = {}
        for manifest in captions:
            for reason, count in manifest.stats["reasons"].items():
                reasons[reason] = reasons.get(reason, 0) + count
        summary = {
            "spec": first.params["spec"],
            "spec_id": first.stats["spec_id"],
            "round": first.params["round"],
            "captions": sum(manifest.stats["captions"] for manifest in captions),
            "rejected": sum(manifest.stats["rejected"] for manifest in captions),
            "reasons": dict(sorted(reasons.items())),
            # Keys downstream are made of digests: sets of other captions must not share one.
            "captions_of": {role: ref.digest for role, ref in inputs.items()},
        }
        (folder / "summary.json").write_bytes(canonical_json(summary))
        counts = {key: summary[key] for key in ("captions", "rejected", "reasons", "spec_id")}
        # Not params: another name of an image makes another dataset, but no other captions.
        where = {"dataset": dataset.ref.model_dump(mode="json"), "answers": first.stats["answers"]}
        return {**counts, **where, "spec": first.stats["spec"], "spec_params": first.params["spec"]}

    return store.build(recipe, build)[0]
