"""Successor: the next version of a dataset, without some of its images, from the shards that hold the others."""

from collections.abc import Container
from typing import Any

from schemas.errors import VipError
from schemas.manifest import Manifest
from schemas.sharding import RejectReason, ShardSettings
from schemas.tables import NAMES, SAMPLES, SOURCE_REJECTS
from storage.items import RangePlace
from storage.refs import Refs
from storage.shards import SAMPLES_TABLE, TAR
from storage.store import ArtifactStore
from storage.suppression import suppressed
from storage.tables import read_table
from vip.sharding.build import NAMES_TABLE, REJECTS_TABLE, build_dataset, build_shard
from vip.sharding.scan import Member, SourceReject, SourceScan

_SUPPRESSED = "on the suppression list"


def next_dataset(store: ArtifactStore, name: str, without: Container[str]) -> dict[str, Any]:
    """Build the version of a dataset that lacks some images; only the shards that held one are written anew.

    Args:
        store: the root; the images are on its suppression list.
        name: the dataset's ref, ``dataset/<name>``.
        without: SHA-256 of what is left out.

    Returns:
        ``ref``, ``before`` and ``after`` (digests; after is None where no image would be left, with the reason in
        ``problem``).
    """
    target = Refs(store.backend).get(name)
    if target is None:
        raise VipError(f"no ref is called '{name}'", "see `vip ref list`")
    dataset = store.require(target)
    shards = {ref.key: store.require(ref) for role, ref in dataset.inputs.items() if role.startswith("shard/")}
    scan = _scan(store, name, dataset, list(shards.values()), without)
    made = []
    for shard in shards.values():
        prefix = str(shard.params["prefix"])
        held = scan.of_shard(prefix)
        if not held:
            continue
        made.append(shard if len(held) == shard.stats["samples"] else build_shard(store, scan, prefix))
    if not made:
        return {"ref": name, "before": dataset.digest, "after": None, "problem": "no image would be left"}
    after = build_dataset(store, scan, made)
    return {"ref": name, "before": dataset.digest, "after": after.digest}


def _scan(
    store: ArtifactStore, name: str, dataset: Manifest, shards: list[Manifest], without: Container[str]
) -> SourceScan:
    """What a scan of the source would say now, read from the shards instead."""
    named: dict[str, list[str]] = {}
    table = read_table(store.read(dataset, NAMES_TABLE), NAMES, ["image_sha256", "name"])
    for sha256, label in zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True):
        named.setdefault(sha256, []).append(label)
    members, rejects = [], _rejects(store, dataset)
    for shard in shards:
        where = store.place(shard, TAR)
        for row in read_table(store.read(shard, SAMPLES_TABLE), SAMPLES).to_pylist():
            sha256, size = row["image_sha256"], row["bytes"]
            labels = tuple(sorted(named.get(sha256, [])))
            if sha256 in without:
                rejects += [SourceReject(label, RejectReason.SUPPRESSED, _SUPPRESSED, size, sha256) for label in labels]
            else:
                place = RangePlace(where, row["offset"], size)
                members.append(Member(sha256, row["split"], size, labels, (place,)))
    params = dataset.params
    settings = ShardSettings(
        name=name.removeprefix("dataset/"),
        bits=params["bits"],
        **{key: params[key] for key in ("test_share", "splits", "max_pixels", "max_bytes") if key in params},
    )
    counts = ("files", "hidden", "sidecars", "duplicates")
    return SourceScan(
        source=name,
        settings=settings,
        bits=params["bits"],
        members=tuple(sorted(members, key=lambda member: member.sha256)),
        rejects=tuple(sorted(rejects, key=lambda row: (row.name, row.reason, row.sha256 or ""))),
        suppressed=_suppressed_digest(store),
        counts={what: dataset.stats[what] for what in counts if what in dataset.stats},
    )


def _rejects(store: ArtifactStore, dataset: Manifest) -> list[SourceReject]:
    rows = read_table(store.read(dataset, REJECTS_TABLE), SOURCE_REJECTS).to_pylist()
    return [
        SourceReject(row["name"], RejectReason(row["reason"]), row["detail"], row["bytes"], row["sha256"])
        for row in rows
    ]


def _suppressed_digest(store: ArtifactStore) -> str:
    from schemas.canonical import fingerprint

    return fingerprint(sorted(suppressed(store)))
