"""Successor: the next version of a dataset, without its suppressed images, from the shards that hold the others."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Manifest
from schemas.sharding import RejectReason, ShardSettings
from schemas.tables import NAMES, SAMPLES, SOURCE_REJECTS
from storage.items import RangePlace
from storage.refs import Refs
from storage.shards import SAMPLES_TABLE, TAR
from storage.store import ArtifactStore
from storage.suppression import suppressed
from storage.tables import read_table
from vip.sharding.build import NAMES_TABLE, REJECTS_TABLE, build_dataset, build_shard, shard_rejects
from vip.sharding.inspect import Reject
from vip.sharding.scan import Member, SourceReject, SourceScan, split_of

_SUPPRESSED = "on the suppression list"


def next_dataset(store: ArtifactStore, name: str) -> dict[str, Any]:
    """Build the version of a dataset that lacks what is on the suppression list.

    Only the shards that held such an image are written anew. It may be there since a takedown that was interrupted, or
    that is under way beside this one.

    Args:
        store: the root.
        name: the dataset's ref, ``dataset/<name>``.

    Returns:
        ``ref``, ``before`` and ``after`` (digests; after is None where no image would be left, with the reason in
        ``problem``).
    """
    target = Refs(store.backend).get(name)
    if target is None:
        raise VipError(f"no ref is called '{name}'", "see `vip ref list`")
    dataset = store.require(target)
    refs = [ref for role, ref in dataset.inputs.items() if role.startswith("shard/")]
    scan = _scan(store, name, dataset, refs)
    if all(member.reject for member in scan.members):
        return {"ref": name, "before": dataset.digest, "after": None, "problem": "no image would be left"}
    after = build_dataset(store, scan, _shards(store, scan, refs))
    return {"ref": name, "before": dataset.digest, "after": after.digest}


def _shards(store: ArtifactStore, scan: SourceScan, refs: list[ArtifactRef]) -> Iterator[Manifest]:
    """The shards of the scan, one after the other: those that lose no member as they are, the others anew."""
    for shard in map(store.require, refs):
        prefix = str(shard.params["prefix"])
        held = len(scan.of_shard(prefix))
        if held:
            whole = held == shard.stats["samples"] + shard.stats["rejected"]
            yield shard if whole else build_shard(store, scan, prefix)


def _scan(store: ArtifactStore, name: str, dataset: Manifest, refs: list[ArtifactRef]) -> SourceScan:
    """What a scan of the source would say now, read from the shards instead."""
    without = suppressed(store)
    params = dataset.params
    settings = ShardSettings(
        name=name.removeprefix("dataset/"),
        bits=params["bits"],
        **{key: params[key] for key in ("test_share", "splits", "max_pixels", "max_bytes") if key in params},
    )
    rejects = _rejects(store, dataset)
    named = _names(store, dataset, rejects)
    splits = {row.sha256: row.split for row in rejects}
    members: list[Member] = []
    for shard in map(store.require, refs):
        members += _good(store, shard, named)
        members += _bad(store, shard, named, splits, settings.test_share)
    # What a shard rejected comes into the table by its shard again.
    bad = {member.sha256 for member in members if member.reject}
    rejects = [row for row in rejects if row.sha256 not in bad]
    for member in members:
        if member.sha256 in without:
            row = SourceReject("", RejectReason.SUPPRESSED, _SUPPRESSED, member.size, member.sha256)
            rejects += [replace(row, name=label) for label in member.names]
    counts = ("files", "hidden", "sidecars", "duplicates")
    kept = [member for member in members if member.sha256 not in without]
    return SourceScan(
        source=name,
        settings=settings,
        bits=params["bits"],
        members=tuple(sorted(kept, key=lambda member: member.sha256)),
        rejects=tuple(sorted(rejects, key=lambda row: (row.name, row.reason, row.sha256 or ""))),
        suppressed=fingerprint(sorted(without)),
        counts={what: dataset.stats[what] for what in counts if what in dataset.stats},
    )


def _names(store: ArtifactStore, dataset: Manifest, rejects: list[SourceReject]) -> dict[str, list[str]]:
    """SHA-256 -> every name of an image, good or rejected."""
    table = read_table(store.read(dataset, NAMES_TABLE), NAMES, ["image_sha256", "name"])
    rows = zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True)
    named: dict[str, list[str]] = {}
    for sha256, label in chain(rows, ((row.sha256, row.name) for row in rejects if row.sha256)):
        named.setdefault(sha256, []).append(label)
    return named


def _good(store: ArtifactStore, shard: Manifest, named: dict[str, list[str]]) -> Iterator[Member]:
    where = store.place(shard, TAR)
    for row in read_table(store.read(shard, SAMPLES_TABLE), SAMPLES).to_pylist():
        sha256, place = row["image_sha256"], RangePlace(where, row["offset"], row["bytes"])
        yield Member(sha256, row["split"], row["bytes"], tuple(sorted(named.get(sha256, []))), (place,))


def _bad(
    store: ArtifactStore,
    shard: Manifest,
    named: dict[str, list[str]],
    splits: dict[str | None, str | None],
    test_share: float,
) -> Iterator[Member]:
    """What a shard rejected: its key is made of it as well, although the root does not have the bytes."""
    for sha256, row in shard_rejects(store, shard):
        split = splits.get(sha256) or split_of(sha256, test_share)  # a dataset of an older format does not say
        labels = tuple(sorted(named.get(sha256, [])))
        yield Member(sha256, split, row.size or 0, labels, (), Reject(row.reason, row.detail))


def _rejects(store: ArtifactStore, dataset: Manifest) -> list[SourceReject]:
    rows = read_table(store.read(dataset, REJECTS_TABLE), SOURCE_REJECTS).to_pylist()
    return [
        SourceReject(row["name"], RejectReason(row["reason"]), row["detail"], row["bytes"], row["sha256"], row["split"])
        for row in rows
    ]
