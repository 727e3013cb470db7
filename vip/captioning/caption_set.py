"""Caption set: the captions of a whole dataset by one spec."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.canonical import canonical_json
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Manifest, Recipe
from storage.store import ArtifactStore
from vip.captioning.plan import dataset_shards


def make_caption_set(store: ArtifactStore, dataset: Manifest, captions: Iterable[Manifest]) -> Manifest:
    """Join the captions of a dataset's shards.

    Args:
        captions: one for each shard of the dataset, all by one spec, bank and round; looked at once, one after the
            other.

    Raises:
        VipError: where shards are missing or captions of several specs are mixed.
    """
    first: Manifest | None = None
    by_shard: dict[str, ArtifactRef] = {}
    settings: set[bytes] = set()
    rows: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for made in captions:
        first = first or made
        by_shard[made.inputs["shard"].digest] = made.ref
        settings.add(canonical_json(made.params))
        rows.update({what: made.stats[what] for what in ("captions", "rejected")})
        reasons.update(made.stats["reasons"])
    inputs = {}
    for prefix, ref in dataset_shards(dataset).items():
        if ref.digest not in by_shard:
            raise VipError(f"shard {prefix} has no captions", "run `vip caption` again")
        inputs[f"captions/{prefix}"] = by_shard[ref.digest]
    if first is None:
        raise VipError("a caption set needs captions", "give a dataset with at least one shard")
    if len(settings) != 1:
        raise VipError("captions of several specs, banks or rounds are not one set", "make a set of each")
    params = {"spec_id": first.stats["spec_id"], "bank": first.params["bank"], "round": first.params["round"]}
    recipe = Recipe(kind="caption_set", stage="make_caption_set", inputs=inputs, params=params)

    def build(folder: Path) -> dict[str, Any]:
        summary = {
            "spec": first.params["spec"],
            "spec_id": first.stats["spec_id"],
            "round": first.params["round"],
            **rows,
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
