"""Suppression: the images that no build may take in again, as an immutable list behind the ref ``suppressed``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.manifest import Manifest, Recipe, RefEntry
from schemas.tables import SUPPRESSED
from storage.refs import Refs
from storage.store import ArtifactStore
from storage.tables import read_table, write_table

REF = "suppressed"
TABLE = "suppressed.parquet"


def suppressed(store: ArtifactStore) -> frozenset[str]:
    """SHA-256 of the bytes of every suppressed image.

    Raises:
        VipError: where the list is named but cannot be read; building without it would bring images back.
    """
    return frozenset(reasons(store))


def reasons(store: ArtifactStore) -> dict[str, str]:
    """Suppressed image -> why, as first stated."""
    return _listed(store, Refs(store.backend).last(REF))


def _listed(store: ArtifactStore, entry: RefEntry | None) -> dict[str, str]:
    if entry is None:
        return {}
    listed = store.require(entry.target)
    table = read_table(store.read(listed, TABLE), SUPPRESSED)
    return dict(zip(table.column("image_sha256").to_pylist(), table.column("reason").to_pylist(), strict=True))


def suppress(store: ArtifactStore, images: Iterable[str], reason: str) -> Manifest:
    """Put images on the list.

    Args:
        store: the root.
        images: SHA-256 of their bytes, 64 hex digits.
        reason: why; the first stated reason of an image stays.

    Returns:
        The list that now stands, with at least these images on it.

    Raises:
        VipError: for something that is no SHA-256.
    """
    wanted = {image.strip().lower() for image in images}
    for image in sorted(wanted):
        if len(image) != 64 or set(image) - set("0123456789abcdef"):
            raise VipError(f"'{image}' is no SHA-256", "give 64 hex digits")
    refs = Refs(store.backend)
    while True:
        last = refs.last(REF)
        listed = _listed(store, last)
        if wanted <= set(listed):
            return store.require(last.target) if last is not None else _publish(store, {})
        made = _publish(store, dict.fromkeys(wanted, reason) | listed)
        # Two writers at once: a list that was not made from the one before it would lose what stands on that.
        refs.set_after(REF, last, made.ref, note=f"{len(wanted - set(listed))} more: {reason}")


def _publish(store: ArtifactStore, listed: dict[str, str]) -> Manifest:
    rows = [{"image_sha256": image, "reason": why} for image, why in sorted(listed.items())]
    recipe = Recipe(kind="suppression", stage="suppress", params={"images": fingerprint(rows)})

    def write(folder: Path) -> dict[str, Any]:
        return {"rows": {TABLE: write_table(folder / TABLE, rows, SUPPRESSED)}, "images": len(rows)}

    return store.build(recipe, write)[0]
