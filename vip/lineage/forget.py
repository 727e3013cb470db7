"""Forget: a takedown. The image's bytes go, the fact that it was there and what used it stays."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.canonical import canonical_json, fingerprint
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Manifest, Recipe
from storage.refs import Refs
from storage.removal import take_down, tombstones
from storage.store import ArtifactStore
from storage.suppression import reasons, suppress
from vip.lineage import graph
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import names, resolve_image, whole_sha256
from vip.lineage.search import files_holding
from vip.lineage.successor import next_dataset
from vip.lineage.twins import original_bytes, pixel_twins
from vip.lineage.usage import HELD_OUT, TRAINED, UNKNOWN, usage_of

Progress = Callable[[str, int, int], None]
REF = "takedowns"

_PICTURED = {"samples": "samples.parquet", "latents": "latents.parquet"}
"""Kinds that hold pictures of images -> the table that says whose."""


@dataclass
class TakedownPlan:
    """What a takedown would do.

    Attributes:
        asked: SHA-256 of the images that were named.
        images: SHA-256 of every image that goes -> the names it had.
        twins: those among them that were not asked for but have the same pixels -> the image that they equal.
        shards: hold the bytes.
        derived: hold pixels made from them, or what can be decoded to pixels: samples, latents and reports.
        datasets: refs of datasets that get a next version.
        captions: ids of the captions that describe them; the words stay.
        checkpoints, metrics: what was made from them, or only from shards that held them.
        used: key of a checkpoint -> how it used them.
        pictures: the bytes, for the search that ends the takedown.
    """

    asked: tuple[str, ...] = ()
    images: dict[str, list[str]] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)
    shards: list[sqlite3.Row] = field(default_factory=list)
    derived: list[sqlite3.Row] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    checkpoints: list[sqlite3.Row] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def retraining(self) -> dict[str, Any]:
        """What it took to train the checkpoints that were trained on them, or may have been."""
        trained = [row for row in self.checkpoints if self.used[row["key"]] != HELD_OUT]
        return {"checkpoints": len(trained), "hours": round(sum(map(_seconds, trained)) / 3600, 2)}

    def made_with(self) -> list[dict[str, Any]]:
        """The checkpoints, and how each used the images."""
        return [
            {"key": row["key"], "digest": row["digest"], "run": row["run"], "used": self.used[row["key"]]}
            for row in self.checkpoints
        ]


def plan_takedown(
    index: LineageIndex, store: ArtifactStore, images: Sequence[str], progress: Progress | None = None
) -> TakedownPlan:
    """Find everything that holds or used the images.

    Args:
        index: the index of the root.
        store: the root.
        images: each a file, a SHA-256 or unique prefix of one, or a name from a dataset. A full SHA-256 need not be
            known here.
        progress: called as (what, done, total).

    Raises:
        VipError: where one of them cannot be told.
    """
    named = dict(_named(index, text) for text in images)
    plan = TakedownPlan(asked=tuple(named), images={sha256: [] for sha256 in named})
    plan.pictures = {sha256: data for sha256, data in named.items() if data is not None}
    _fetch_pictures(index, plan)
    plan.twins = pixel_twins(index, plan.pictures, progress)
    plan.images |= {sha256: [] for sha256 in plan.twins}
    _fetch_pictures(index, plan)
    for sha256, name in names(index):
        if sha256 in plan.images and name not in plan.images[sha256]:
            plan.images[sha256].append(name)
    _holders(index, store, plan)
    return plan


def _fetch_pictures(index: LineageIndex, plan: TakedownPlan) -> None:
    for sha256 in plan.images.keys() - plan.pictures.keys():
        data = original_bytes(index, sha256)
        if data is not None:
            plan.pictures[sha256] = data


def _named(index: LineageIndex, text: str) -> tuple[str, bytes | None]:
    """The whole SHA-256 of an image, and its bytes where a file was named."""
    lower = text.lower()
    if len(lower) == 64 and not set(lower) - set("0123456789abcdef"):
        return lower, None
    packed, file = resolve_image(index, text)
    if file is not None:
        data = file.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        if any(name == text and known != sha256 for known, name in names(index)):
            raise VipError(
                f"{text} is a file here and also the name of another image of a dataset",
                f"give the SHA-256 of the one that is meant, or ./{text} for the file",
            )
        return sha256, data
    return whole_sha256(index, packed), None


def _holders(index: LineageIndex, store: ArtifactStore, plan: TakedownPlan) -> None:
    shards: set[int] = set()
    starts: set[int] = set()
    captions: set[str] = set()
    for sha256 in plan.images:
        packed = bytes.fromhex(sha256[:32])
        shards |= {row[0] for row in index.db.execute("SELECT artifact FROM sample WHERE image = ?", (packed,))}
        captions |= {row[0].hex() for row in index.db.execute("SELECT id FROM caption WHERE image = ?", (packed,))}
        usage = usage_of(index, packed)
        starts.update(usage.starts)
        for key, how in usage.checkpoints.items():
            plan.used[key] = min(how, plan.used.get(key, HELD_OUT), key=(TRAINED, UNKNOWN, HELD_OUT).index)
    plan.captions = sorted(captions)
    plan.shards = [graph.artifact(index, number) for number in sorted(shards)]
    plan.datasets = list(_datasets(store, {row["key"] for row in plan.shards}))
    later = graph.descendants(index, sorted(starts))
    pictured = [row for row in later if row["kind"] in _PICTURED and _pictures(index, row, plan.images)]
    # A page shows a few pictures of an exam and does not say which: every page made from such samples goes.
    pages = [row for row in graph.descendants(index, [row["id"] for row in pictured]) if row["kind"] == "report"]
    plan.derived = [graph.artifact(index, row["id"]) for row in (*pictured, *pages) if row["state"] == "live"]
    plan.checkpoints = [graph.artifact(index, row["id"]) for row in later if row["kind"] == "checkpoint"]
    evaluations = [row["id"] for row in later if row["kind"] == "evaluation"]
    plan.metrics = [row["id"] for row in graph.metrics_of(index, evaluations)]


def _datasets(store: ArtifactStore, shards: set[str]) -> Iterator[str]:
    """Refs of the datasets that hold one of some shards (keys)."""
    refs = Refs(store.backend)
    for name in refs.names():
        target = refs.get(name)
        if target is not None and target.kind == "dataset" and name.startswith("dataset/"):
            dataset = store.get(target.kind, target.key)
            if dataset is not None and any(ref.key in shards for ref in dataset.inputs.values()):
                yield name


def _pictures(index: LineageIndex, row: sqlite3.Row, images: dict[str, list[str]]) -> bool:
    """Whether samples or latents show one of the images."""
    if row["state"] != "live":
        return False
    from storage.tables import read_table

    owner, name = graph.artifact(index, row["id"]), _PICTURED[row["kind"]]
    if name not in graph.loads(owner["outputs"]):
        return True  # it does not say whose pictures it holds
    from schemas.tables import GENERATED, LATENTS

    schema = GENERATED if row["kind"] == "samples" else LATENTS
    table = read_table(index.backend.get(f"{graph.folder(owner)}/{name}"), schema, ["image_sha256"])
    return not set(images).isdisjoint(table.column(0).to_pylist())


def run_takedown(
    index: LineageIndex,
    store: ArtifactStore,
    plan: TakedownPlan,
    reason: str,
    signed_by: str,
    search: bool = True,
    progress: Progress | None = None,
) -> Manifest:
    """Suppress, make the next dataset versions, erase, search, and write the record.

    It can be interrupted and run again: what is done is found done, and the record is written last.

    Args:
        index: the index of the root.
        store: the root.
        plan: of :func:`plan_takedown`.
        reason: why; it stands on the suppression list, in every tombstone and in the record.
        signed_by: who answers for it.
        search: read every file of the root for the bytes afterwards.
        progress: called as (what, done, total).

    Returns:
        A ``takedown`` artifact with ``record.json``; the ref ``takedowns`` is its log.
    """
    mark = f"takedown {fingerprint([sorted(plan.asked), reason, signed_by])[:12]}: {reason}"
    for sha256, why in reasons(store).items():
        if why == mark:
            plan.images.setdefault(sha256, [])  # found as a twin by a run that was interrupted
    listed = suppress(store, plan.images, mark)
    # A run beside this one may have published a shard with the image before the list stood: look again.
    index.refresh()
    _fetch_pictures(index, plan)
    _holders(index, store, plan)
    # Nobody can look for bytes that nobody has: of an image that was erased before, or that was never here.
    searched = plan.pictures.keys() & plan.images.keys() if search else set()
    versions = [next_dataset(store, name) for name in plan.datasets]
    # What others are found by goes last, so that a run after an interruption still finds them: a page by its samples,
    # samples, latents and twins by the shard.
    erase = [*reversed(plan.derived), *plan.shards]
    for done, row in enumerate(erase, 1):
        take_down(store, ArtifactRef(kind=row["kind"], key=row["key"], digest=row["digest"]), mark)
        if progress:
            progress("artifacts erased", done, len(erase))
    erased = _erased(store, mark)
    found = files_holding(store.backend, plan.pictures, progress) if search else []
    # A file that is the image and nothing else, such as a source folder inside the root, goes as well.
    copies = [(file, sha256) for file, sha256 in found if store.backend.size(file) == len(plan.pictures[sha256])]
    for file, _ in copies:
        store.backend.remove(file)
    found = [find for find in found if find not in copies]
    record = {
        "images": [
            {
                "sha256": sha256,
                "names": known,
                "same_pixels_as": plan.twins.get(sha256),
                "searched": sha256 in searched,
            }
            for sha256, known in sorted(plan.images.items())
        ],
        "reason": reason,
        "signed_by": signed_by,
        "erased": erased,
        "erased_copies": [file for file, _ in copies],
        "datasets": versions,
        "captions": plan.captions,
        "checkpoints": plan.made_with(),
        "metrics": plan.metrics,
        "retraining": plan.retraining,
        "searched": searched == plan.images.keys(),
        "still_held_by": [{"file": file, "image": sha256} for file, sha256 in found],
    }
    # All of it is in the key, so that a run that finds something else leaves a record of its own.
    recipe = Recipe(
        kind="takedown",
        stage="forget",
        inputs={"suppressed": listed.ref},
        params={
            "images": sorted(plan.images),
            "reason": reason,
            "signed_by": signed_by,
            "searched": sorted(searched),
            "record": fingerprint(record),
        },
    )

    def write(folder: Path) -> dict[str, Any]:
        at = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        (folder / "record.json").write_bytes(canonical_json(record | at))
        return {"images": len(plan.images), "erased": len(erased), "still_held": len(found)}

    made, _ = store.build(recipe, write)
    Refs(store.backend).set(REF, made.ref, note=reason)
    return made


def _erased(store: ArtifactStore, mark: str) -> list[dict[str, Any]]:
    """Everything that this takedown erased, also in an earlier run of it that was interrupted.

    A run that was killed between a tombstone and the last of the files left bytes that no index leads to, so every
    erasure is finished here, whichever takedown began it.
    """
    erased = []
    for stone in tombstones(store):
        take_down(store, ArtifactRef(kind=stone.kind, key=stone.key, digest=stone.digest), mark)
        if stone.reason == mark:
            erased.append(stone.model_dump(mode="json", include={"kind", "key", "digest", "removed"}))
    return erased


def _seconds(checkpoint: sqlite3.Row) -> float:
    """Of all attempts of a training, as it told itself; of what does not tell, how long it took to make."""
    told = graph.loads(checkpoint["stats"]).get("seconds")
    if told is not None:
        return float(told)
    started, finished = (datetime.fromisoformat(checkpoint[name]) for name in ("started", "finished"))
    return (finished - started).total_seconds()


def require_reason(reason: str) -> str:
    """The reason, trimmed.

    Raises:
        VipError: where there is none.
    """
    if not reason.strip():
        raise VipError("a takedown needs a reason", "say why with --reason")
    return reason.strip()
