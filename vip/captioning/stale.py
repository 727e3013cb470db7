"""Stale: rows that were captioned before, by something that has changed since, and what that was."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.bank import Bank
from schemas.manifest import ArtifactRef, Manifest
from schemas.spec import CAUSES, READING, CaptionSpec
from schemas.tables import NAMES
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.captioning.rows import read_samples

_WORDS = {"constraint": "template"}
"""What a plan calls a cause, where it tells two of them as one."""


@dataclass(frozen=True)
class Earlier:
    """A caption set to compare with.

    Attributes:
        caption_set: the earlier set.
        dataset: what it captioned; None where that is no longer in the store.
        causes: what differs from the present spec and bank, besides images.
    """

    caption_set: Manifest
    dataset: Manifest | None
    causes: tuple[str, ...]


def nearest_earlier(store: ArtifactStore, dataset: Manifest, spec: CaptionSpec, bank: Bank) -> Earlier | None:
    """The caption set most like the present work: most shards in common, then fewest causes, then latest."""
    mine = {ref.digest for role, ref in dataset.inputs.items() if role.startswith("shard/")}
    best: tuple[tuple[Any, ...], Earlier] | None = None
    for found in store.list("caption_set"):
        place = found.stats.get("dataset")
        earlier_dataset = _get(store, ArtifactRef.model_validate(place)) if place else None
        theirs = {ref.digest for ref in earlier_dataset.inputs.values()} if earlier_dataset else set()
        causes = differences(found.stats["spec_params"], found.params["bank"], spec, bank)
        rank = (len(mine & theirs), -len(causes), found.run.finished)
        if best is None or rank > best[0]:
            best = (rank, Earlier(found, earlier_dataset, causes))
    return best[1] if best else None


def differences(
    earlier_spec: dict[str, Any], earlier_bank: dict[str, Any], spec: CaptionSpec, bank: Bank
) -> tuple[str, ...]:
    """The causes that tell an earlier spec and bank from the present ones."""
    now = spec.params
    changed = [cause for name, cause in CAUSES.items() if earlier_spec.get(name) != now.get(name)]
    causes = dict.fromkeys(_WORDS.get(cause, cause) for cause in changed)
    return (*causes, *(["view/region"] if earlier_bank != bank.params else []))


def _get(store: ArtifactStore, ref: ArtifactRef) -> Manifest | None:
    return store.get(ref.kind, ref.key)


class StaleRows:
    """Tells of images without an answer whether they were captioned before, and why that no longer counts.

    Args:
        earlier: the nearest earlier caption set; None where there is none.
    """

    def __init__(self, store: ArtifactStore, dataset: Manifest, earlier: Earlier | None) -> None:
        self._store, self._dataset, self._earlier = store, dataset, earlier
        self._names: tuple[dict[str, list[str]], dict[str, set[str]]] | None = None
        self._old_shards = _shards(earlier.dataset) if earlier and earlier.dataset else {}
        self._held: dict[str, frozenset[str]] = {}

    def causes(self, shard: ArtifactRef, prefix: str, images: Counter[str]) -> Iterator[tuple[str, int]]:
        """Split the rows to ask into causes.

        Args:
            shard, prefix: where the images lie now.
            images: key of an image -> number of its rows to ask.

        Yields:
            (cause, rows); the cause is empty for rows that were never captioned.
        """
        if self._earlier is None or not self._old_shards:
            yield "", sum(images.values())
            return
        changed = ", ".join(cause for cause in self._earlier.causes if cause != READING)
        if shard.digest in {ref.digest for ref in self._old_shards.values()}:
            yield changed, sum(images.values())
            return
        before = self._before(prefix)
        for image, rows in images.items():
            if image in before:
                yield changed, rows
            else:
                yield ("image" if self._had_this_name(image) else ""), rows

    def _before(self, prefix: str) -> frozenset[str]:
        """Keys of the images that the earlier dataset holds under these bits."""
        found: set[str] = set()
        for bits, ref in self._old_shards.items():
            if bits.startswith(prefix) or prefix.startswith(bits):
                if bits not in self._held:
                    manifest = _get(self._store, ref)
                    samples = read_samples(self._store, manifest) if manifest else []
                    self._held = {bits: frozenset(sample.image_sha256 for sample in samples)}
                found |= self._held[bits]
        return frozenset(found)

    def _had_this_name(self, image: str) -> bool:
        """Whether another image stood under one of its names before."""
        if self._names is None and self._earlier and self._earlier.dataset:
            now = _names(self._store, self._dataset)
            names_of: dict[str, list[str]] = {}
            for name, key in now:
                names_of.setdefault(key, []).append(name)
            keys_of: dict[str, set[str]] = {}
            for name, key in _names(self._store, self._earlier.dataset):
                keys_of.setdefault(name, set()).add(key)
            self._names = names_of, keys_of
        if self._names is None:
            return False
        names_of, keys_of = self._names
        return any(keys_of.get(name, set()) - {image} for name in names_of.get(image, []))


def _shards(dataset: Manifest) -> dict[str, ArtifactRef]:
    return {role.removeprefix("shard/"): ref for role, ref in dataset.inputs.items() if role.startswith("shard/")}


def _names(store: ArtifactStore, dataset: Manifest) -> list[tuple[str, str]]:
    table = read_table(store.read(dataset, "names.parquet"), NAMES, ["name", "image_sha256"])
    return list(zip(table.column("name").to_pylist(), table.column("image_sha256").to_pylist(), strict=True))
