"""Features: what a feature network says of real or generated images, kept so that nobody computes them twice."""

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from schemas.canonical import fingerprint
from schemas.manifest import ArtifactRef, Manifest, Recipe
from storage.store import ArtifactStore
from vip.evaluation.exam import Item
from vip.evaluation.network import FeatureNetwork, Features
from vip.evaluation.sample import TAR, Progress, originals
from vip.machine import machine

FILE = "features.safetensors"
_BATCH = 32
_ROWS = 4096


def real_features(store: ArtifactStore, network: FeatureNetwork, items: Sequence[Item], progress: Progress) -> Manifest:
    """Features of the real pixels of the items in their view, in their order."""
    shards = {store.require(item.shard).params["prefix"]: item.shard for item in items}

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(items), _BATCH):
            yield originals(store, items[start : start + _BATCH])

    params = {
        "view": items[0].view.model_dump(mode="json"),
        "members": fingerprint([item.image_sha256 for item in items]),
    }
    inputs = {f"shard/{prefix}": ref for prefix, ref in shards.items()}
    return _features(store, network, inputs, params, batches, len(items), "features of real images", progress)


def generated_features(
    store: ArtifactStore, network: FeatureNetwork, samples: Manifest, progress: Progress, which: str = "pasted"
) -> Manifest:
    """Features of the generated images of a ``samples`` artifact, in the order of its table."""

    def batches() -> Iterator[np.ndarray]:
        batch: list[np.ndarray] = []
        for _, pixels in read_generated(store, samples, which):
            batch.append(pixels)
            if len(batch) == _BATCH:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    total = int(samples.stats["images"])
    what = f"features, {samples.params['setting']}"
    return _features(store, network, {"samples": samples.ref}, {"which": which}, batches, total, what, progress)


def read_generated(store: ArtifactStore, samples: Manifest, which: str = "pasted") -> Iterator[tuple[str, np.ndarray]]:
    """Stream (image key, uint8 pixels of shape (height, width, 3)) in the order of the samples table."""
    with tarfile.open(store.local(samples) / TAR, "r:") as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]
            key, kind, _ = info.name.split(".")
            if kind == which:
                with Image.open(io.BytesIO(tar.extractfile(info).read())) as image:  # type: ignore[union-attr]
                    yield key, np.asarray(image.convert("RGB"))


def blocks(store: ArtifactStore, manifests: Sequence[Manifest], name: str = "pooled") -> Iterator[np.ndarray]:
    """The rows of several features artifacts, one block after the other, never all at once."""
    for manifest in manifests:
        with safe_open(store.local(manifest) / FILE, framework="numpy") as file:
            rows = file.get_slice(name)
            count = rows.get_shape()[0]
            for start in range(0, count, _ROWS):
                yield rows[start : min(start + _ROWS, count)]


class FeatureRows:
    """The rows of several features artifacts as one array (n, width) that is read in slices, never as a whole.

    Args:
        store: where they lie.
        manifests: features artifacts, in order.
        limit: take the first so many rows only.
    """

    def __init__(self, store: ArtifactStore, manifests: Sequence[Manifest], limit: int | None = None) -> None:
        self._files = [store.local(manifest) / FILE for manifest in manifests]
        self._starts = np.cumsum([0, *(int(manifest.stats["images"]) for manifest in manifests)]).tolist()
        self._count = min(self._starts[-1], limit if limit is not None else self._starts[-1])

    def __len__(self) -> int:
        """How many images."""
        return self._count

    def __getitem__(self, wanted: slice) -> np.ndarray:
        """Some rows that stand side by side, float32."""
        first, last, _ = wanted.indices(self._count)
        parts = []
        for path, start, end in zip(self._files, self._starts, self._starts[1:], strict=False):
            if start < last and end > first:
                with safe_open(path, framework="numpy") as file:
                    parts.append(file.get_slice("pooled")[max(first, start) - start : min(last, end) - start])
        return np.concatenate(parts)


def _features(
    store: ArtifactStore,
    network: FeatureNetwork,
    inputs: dict[str, ArtifactRef],
    params: dict[str, Any],
    batches: Callable[[], Iterator[np.ndarray]],
    total: int,
    what: str,
    progress: Progress,
) -> Manifest:
    recipe = Recipe(
        kind="features",
        stage="features",
        inputs=inputs,
        params={"network": {"name": network.name, "digest": network.digest}, **params},
    )

    def build(folder: Path) -> dict[str, Any]:
        parts: list[Features] = []
        done = 0
        for pixels in batches():
            progress(what, done, total)
            parts.append(network(pixels))
            done += len(pixels)
        progress(what, total, total)
        tensors = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Features._fields}
        save_file(tensors, folder / FILE)
        return {"rows": {FILE: done}, "images": done, "machine": machine()}

    return store.build(recipe, build)[0]
