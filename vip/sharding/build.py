"""Build: the shards of a scan, one artifact each, and the dataset that joins them."""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Manifest, Recipe
from schemas.sharding import RejectReason, ShardSettings
from schemas.tables import NAMES, SAMPLES, SHARD_REJECTS, SHARDS, SOURCE_REJECTS
from storage.answers import key_bits
from storage.items import RowPlace
from storage.refs import Refs
from storage.removal import take_down
from storage.shards import SAMPLES_TABLE, TAR, ShardWriter
from storage.store import ArtifactStore
from storage.suppression import suppressed
from storage.tables import read_table, write_table
from vip.sharding.inspect import ImageFacts, Reject, inspect_image
from vip.sharding.pool import batches, bounded_map, find_all
from vip.sharding.scan import Member, Progress, SourceReject, SourceScan, scan_source
from vip.sharding.spool import needs_spool, spool_rows, spooled

FORMAT = 1
DATASET_FORMAT = 2
_BATCH_ITEMS = 16
_BATCH_BYTES = 4 << 20
REJECTS_TABLE = "rejects.parquet"
NAMES_TABLE = "names.parquet"
SHARDS_TABLE = "shards.parquet"


def shard_source(
    store: ArtifactStore,
    source: str,
    settings: ShardSettings,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Scan, build what is missing, join: the whole way from a source to a dataset, in one process.

    What the store's suppression list names stays out.

    Returns:
        The dataset; the ref ``dataset/<name>`` points at it.

    Raises:
        VipError: see :func:`scan_source`, :func:`build_shard`, :func:`build_dataset`.
    """
    bits = previous_bits(store, settings.name)
    scan = scan_source(source, settings, suppressed(store), workers, bits, progress)
    with spooled(scan, missing_shards(store, scan)) as ready:
        for number, prefix in enumerate(scan.prefixes, 1):
            build_shard(store, ready, prefix, workers)
            if progress is not None:
                progress("shards", number, len(scan.prefixes))
    return build_dataset(store, scan, standing_shards(store, scan))


def previous_bits(store: ArtifactStore, name: str) -> int | None:
    """The bits of the dataset that ``dataset/<name>`` points at, or None where there is none."""
    target = Refs(store.backend).get(f"dataset/{name}")
    manifest = store.get(target.kind, target.key) if target is not None else None
    return int(manifest.params["bits"]) if manifest is not None else None


def shard_recipe(scan: SourceScan, prefix: str) -> Recipe:
    """What names a shard: its members, good and bad, with their splits. No file name is in it.

    Because the bad ones are in it too, whether a shard is done is known before anything is decoded.
    """
    members = [[member.sha256, member.split] for member in scan.of_shard(prefix)]
    params = {
        "prefix": prefix,
        "members": fingerprint(members),
        "max_pixels": scan.settings.max_pixels,
        "format": FORMAT,
    }
    return Recipe(kind="shard", stage="build_shard", params=params)


def missing_shards(store: ArtifactStore, scan: SourceScan) -> list[str]:
    """The shards of a scan that have yet to be made."""
    return [prefix for prefix, shard in _found(store, scan) if shard is None]


def standing_shards(store: ArtifactStore, scan: SourceScan) -> Iterator[Manifest]:
    """The shards of a scan that were all made, one after the other; their keys are known, so nobody need keep them.

    Raises:
        VipError: where one is gone again.
    """
    for prefix, shard in _found(store, scan):
        if shard is None:
            _refuse_suppressed(store, scan.of_shard(prefix))
            raise VipError(f"shard {prefix} was removed while the dataset was made", "run again")
        yield shard


def _found(store: ArtifactStore, scan: SourceScan) -> Iterator[tuple[str, Manifest | None]]:
    recipes = (shard_recipe(scan, prefix) for prefix in scan.prefixes)
    return zip(scan.prefixes, find_all(store, recipes), strict=True)


def build_shard(
    store: ArtifactStore,
    scan: SourceScan,
    prefix: str,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Decode, check and pack the samples of one shard, or find the shard where it is already made.

    Returns:
        The shard, with ``samples.tar``, ``samples.parquet`` and ``rejects.parquet``.

    Raises:
        VipError: where a file changed or vanished after it was scanned.
    """
    members = scan.of_shard(prefix)
    write = partial(_write_shard, members, scan.settings.max_pixels, workers or os.cpu_count() or 1, progress)
    shard, fresh = store.build(shard_recipe(scan, prefix), write)
    if fresh:
        _refuse_suppressed(store, scan.of_shard(prefix), shard)
    return shard


def _refuse_suppressed(store: ArtifactStore, members: tuple[Member, ...], shard: Manifest | None = None) -> None:
    """Take a shard back that holds an image taken down since the scan.

    A takedown first lists the image and then looks for the shards that hold it; here the shard is published first and
    the list read then, so that one of both sees the other.
    """
    if suppressed(store).isdisjoint(member.sha256 for member in members):
        return
    if shard is not None:
        take_down(store, shard.ref, "an image in it was taken down while it was made")
    raise VipError("an image was taken down while the dataset was made", "run again; it stays out")


def _write_shard(
    members: tuple[Member, ...], max_pixels: int, workers: int, progress: Progress | None, folder: Path
) -> dict[str, Any]:
    if needs_spool(members):
        with tempfile.TemporaryDirectory(prefix="vip-rows-") as scratch:
            copied = spool_rows(members, Path(scratch) / "rows")
            if not needs_spool(copied):
                return _write_shard(copied, max_pixels, workers, progress, folder)
    samples: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    groups = batches(members, lambda member: member.size, _BATCH_ITEMS, _BATCH_BYTES)
    checked = chain.from_iterable(bounded_map(partial(_check, max_pixels=max_pixels), groups, workers))
    with ShardWriter(folder / TAR) as shard:
        for number, (member, (data, found)) in enumerate(zip(members, checked, strict=True), 1):
            if isinstance(found, Reject):
                row = {"reason": found.reason.value, "detail": found.detail, "bytes": member.size}
                rejects.append({"image_sha256": member.sha256, **row})
            else:
                facts = {"image_sha256": member.sha256, **found.as_row()}
                name, offset = shard.write(member.sha256, found.extension, data, facts)
                place = {"bytes": member.size, "member": name, "offset": offset}
                samples.append({"split": member.split, **facts, **place})
            if progress is not None and (number % 100 == 0 or number == len(members)):
                progress("images checked", number, len(members))
    write_table(folder / SAMPLES_TABLE, samples, SAMPLES)
    write_table(folder / REJECTS_TABLE, rejects, SHARD_REJECTS)
    rows = {TAR: len(samples), SAMPLES_TABLE: len(samples), REJECTS_TABLE: len(rejects)}
    splits = Counter(row["split"] for row in samples)
    return {
        "rows": rows,
        "samples": len(samples),
        "rejected": len(rejects),
        **{s: splits[s] for s in ("train", "test")},
    }


def _check(members: list[Member], max_pixels: int) -> list[tuple[bytes, ImageFacts | Reject]]:
    return [(b"", member.reject) if member.reject else _inspect(_fetch(member), max_pixels) for member in members]


def _inspect(data: bytes, max_pixels: int) -> tuple[bytes, ImageFacts | Reject]:
    return data, inspect_image(data, max_pixels)


def _fetch(member: Member) -> bytes:
    """The bytes of a member, from the first of its places that still holds them."""
    for place in sorted(member.places, key=lambda place: isinstance(place, RowPlace)):
        try:
            data = place.read()
        except OSError:
            continue  # another name may still hold the same bytes; if none does, the error below says so
        if hashlib.sha256(data).hexdigest() == member.sha256:
            return data
    raise VipError(f"{member.names[0]!r} changed while it was being read", "run again when the source is at rest")


def build_dataset(store: ArtifactStore, scan: SourceScan, shards: Iterable[Manifest]) -> Manifest:
    """Join the shards of a scan to a dataset: all names, all rejects, all shards, and the ref ``dataset/<name>``.

    Shards in which no image was good are not among its inputs; their rejects are in its table.

    Args:
        shards: looked at once, one after the other.

    Raises:
        VipError: where no image of the source can be decoded.
    """
    bad: dict[str, SourceReject] = {}
    inputs: dict[str, ArtifactRef] = {}
    rows: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for shard in shards:
        bad.update(shard_rejects(store, shard))
        if shard.stats["samples"]:
            inputs[f"shard/{shard.params['prefix']}"] = shard.ref
            held = {what: shard.stats[what] for what in ("samples", "train", "test")}
            counts.update(held)
            # Keys downstream are made of digests: datasets of other shards must not share one.
            rows.append({"shard": shard.params["prefix"], "digest": shard.digest, **held})
    _refuse_suppressed(store, scan.members)
    names, rejects = _join(scan, bad)
    if not inputs:
        raise VipError(_no_good(scan, rejects), "give a source with images that Pillow can decode")
    settings = scan.settings
    params = {
        "bits": scan.bits,
        "splits": settings.splits,
        "test_share": settings.test_share,
        "max_pixels": settings.max_pixels,
        "max_bytes": settings.max_bytes,
        "suppressed": scan.suppressed,
        "names": fingerprint(names),
        "rejects": fingerprint(rejects),
        "format": DATASET_FORMAT,
    }
    recipe = Recipe(kind="dataset", stage="build_dataset", inputs=inputs, params=params)
    stats = {
        **scan.counts,
        **counts,
        "shards": len(inputs),
        "rejected": len(rejects),
        "reasons": dict(sorted(Counter(row["reason"] for row in rejects).items())),
    }

    def write(folder: Path) -> dict[str, Any]:
        written = {
            NAMES_TABLE: write_table(folder / NAMES_TABLE, names, NAMES),
            REJECTS_TABLE: write_table(folder / REJECTS_TABLE, rejects, SOURCE_REJECTS),
            SHARDS_TABLE: write_table(folder / SHARDS_TABLE, sorted(rows, key=lambda row: row["shard"]), SHARDS),
        }
        return {"rows": written, **stats}

    manifest, _ = store.build(recipe, write)
    Refs(store.backend).set(f"dataset/{settings.name}", manifest.ref)
    return manifest


def shard_rejects(store: ArtifactStore, shard: Manifest) -> Iterator[tuple[str, SourceReject]]:
    """(SHA-256, why) of what a shard rejected; it knows no names."""
    if shard.stats["rejected"]:
        for row in read_table(store.read(shard, REJECTS_TABLE), SHARD_REJECTS).to_pylist():
            sha256, reason = row["image_sha256"], RejectReason(row["reason"])
            yield sha256, SourceReject("", reason, row["detail"], row["bytes"], sha256)


def _join(scan: SourceScan, bad: dict[str, SourceReject]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the names table and of the rejects table, sorted."""
    names, rejects = [], list(scan.rejects)
    for member in scan.members:
        reject = bad.get(member.sha256)
        for name in member.names:
            if reject is None:
                prefix = key_bits(member.sha256, scan.bits)
                names.append({"image_sha256": member.sha256, "name": name, "shard": prefix, "split": member.split})
            else:
                rejects.append(replace(reject, name=name, split=member.split))
    rejects.sort(key=lambda row: (row.name, row.reason, row.sha256 or "", row.detail))
    return names, [
        {
            "name": row.name,
            "reason": row.reason.value,
            "detail": row.detail,
            "bytes": row.size,
            "sha256": row.sha256,
            "split": row.split,
        }
        for row in rejects
    ]


def _no_good(scan: SourceScan, rejects: list[dict[str, Any]]) -> str:
    first = rejects[0]
    return (
        f"no image in {scan.source} can be used: {len(rejects)} rejected, such as {first['name']!r} ({first['detail']})"
    )
