"""Usage: how each checkpoint and figure used an image: trained on, examined with, only in its shards, or unknown."""

import json
import sqlite3
from dataclasses import dataclass

from vip.lineage import graph
from vip.lineage.index import LineageIndex
from vip.lineage.splits import splits_of

TRAINED = "trained on"
UNKNOWN = "unknown: its split in a shard that was removed is no longer recorded"
HELD_OUT = "in its shards, but of the test split"
_EXAMINED = "examined with"
_THROUGH = "through the checkpoint"
_BESIDE = "in its shards, but neither examined with nor trained on"


@dataclass(frozen=True)
class Usage:
    """How an image was used.

    Attributes:
        splits: of the image in each shard that holds or held it, None where nobody can tell.
        starts: the numbers of these shards and of its captions; whatever used it was made from one of them.
        checkpoints: key -> how.
        metrics: id of a figure -> how.
    """

    splits: tuple[str | None, ...]
    starts: list[int]
    checkpoints: dict[str, str]
    metrics: dict[str, str]


def usage_of(index: LineageIndex, image: bytes) -> Usage:
    """What used an image, by the shards that each checkpoint and figure was made from itself.

    A test image lies in the shards of a training, but was not trained on. Where nothing says any more of which split it
    was in a shard that was removed, its use is unknown.

    Args:
        index: the index of the root.
        image: the first 16 bytes of its SHA-256.
    """
    held = splits_of(index, image)
    captioned = index.db.execute("SELECT DISTINCT artifact FROM caption WHERE image = ?", (image,))
    starts = [*held, *(row["artifact"] for row in captioned)]
    reached = {*starts, *graph.later(index, starts)}
    captions, checkpoints, exams = (_of_kind(index, kind, reached) for kind in ("captions", "checkpoint", "evaluation"))
    # Captions lead to whoever was told one of them; which pictures were taken is said by the shards themselves.
    shards = {split: [shard for shard, of in held.items() if of == split] for split in held.values()}
    trained = {split: graph.later(index, of, captions) for split, of in shards.items()}
    shown = {split: graph.later(index, of, [*captions, *checkpoints]) for split, of in shards.items()}
    words = (("train", TRAINED), (None, UNKNOWN), ("test", HELD_OUT))
    used = {
        row["key"]: next((how for split, how in words if number in trained.get(split, ())), UNKNOWN)
        for number, row in checkpoints.items()
    }
    through = {row["digest"]: used[row["key"]] for row in checkpoints.values()}
    examined = {number: graph.loads(row["params"]).get("split", "test") for number, row in exams.items()}
    figures = {}
    for figure in graph.metrics_of(index, list(exams)):
        exam, how = figure["artifact"], through.get(figure["checkpoint"])
        if exam in shown.get(examined[exam], ()):
            figures[figure["id"]] = _EXAMINED
        elif how == TRAINED:
            figures[figure["id"]] = _THROUGH
        else:
            figures[figure["id"]] = UNKNOWN if how == UNKNOWN or exam in shown.get(None, ()) else _BESIDE
    return Usage(tuple(held.values()), starts, used, figures)


def _of_kind(index: LineageIndex, kind: str, numbers: set[int]) -> dict[int, sqlite3.Row]:
    found = index.db.execute(
        "SELECT id, key, digest, params FROM artifact WHERE kind = ? AND id IN (SELECT value FROM json_each(?))",
        (kind, json.dumps(sorted(numbers))),
    )
    return {row["id"]: row for row in found}
