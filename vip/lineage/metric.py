"""Where a number came from: checkpoint, data, captions, exam."""

import sqlite3
from typing import Any

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import is_prefix
from vip.lineage.rows import check_file, check_manifest

_SHOWN = 5


def resolve_metric(index: LineageIndex, text: str) -> sqlite3.Row:
    """The figure meant by a unique prefix of its id.

    Raises:
        VipError: where nothing, or more than one figure, fits.
    """
    if not is_prefix(text):
        raise VipError(f"'{text}' is no id of a figure", "give 4 or more hex digits")
    rows = figures_fitting(index, text)
    ids = list(dict.fromkeys(row["id"] for row in rows))
    if not ids:
        raise VipError(f"no figure has an id that begins with '{text}'", "take the id from a report or metrics table")
    if len(ids) > 1:
        raise VipError(f"'{text}' fits {len(ids)} figures ({', '.join(ids[:_SHOWN])})", "give more of the id")
    return rows[0]


def figures_fitting(index: LineageIndex, text: str) -> list[sqlite3.Row]:
    """Rows of the figures whose id begins with ``text``, the newest evaluation first."""
    prefix = text.lower()
    return index.db.execute(
        """SELECT metric.*, artifact.state FROM metric JOIN artifact ON artifact.id = metric.artifact
        WHERE metric.id >= ? AND metric.id < ? ORDER BY artifact.started DESC LIMIT 50""",
        (prefix, prefix + "g"),
    ).fetchall()


def trace_metric(index: LineageIndex, text: str) -> Record:
    """The chain behind one figure.

    Args:
        index: the index of the root.
        text: a unique prefix of the metric's id.

    Returns:
        ``metric``, ``exam`` (setting, view, region, network, every parameter), ``checkpoint``, ``caption_set``,
        ``data`` (the shards that hold the image bytes), ``made_by``, ``inputs`` and ``checks``.

    Raises:
        VipError: where no figure, or more than one, fits.
    """
    row = resolve_metric(index, text)
    owner = graph.artifact(index, row["artifact"])
    params = graph.loads(owner["params"])
    checkpoint = _named(index, owner["id"], "checkpoint", row["checkpoint"])
    caption_set = _named(index, owner["id"], "caption_set", row["caption_set"])
    return {
        "metric": {
            "metric_id": row["id"],
            "metric": row["metric"],
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "unit": row["unit"],
            "n": row["n"],
        },
        "exam": {
            "setting": row["setting"],
            "view": row["view"],
            "region": row["region"],
            "network": row["network"],
            "params": params,
        },
        "checkpoint": _checkpoint(index, checkpoint, row["checkpoint"]),
        "caption_set": _caption_set(index, caption_set, row["caption_set"]),
        "data": _data(index, owner["id"], params.get("split", "test")),
        "made_by": graph.made_by(owner) | {"evaluation": owner["key"]},
        "inputs": [
            {"role": one["role"], "kind": one["kind"], "key": one["key"], "state": one["state"]}
            for one in graph.inputs(index, owner["id"])
        ],
        "checks": [check_manifest(index, owner), check_file(index, owner, "metrics.parquet")],
    }


def _named(index: LineageIndex, evaluation: int, kind: str, digest: str) -> sqlite3.Row | None:
    """The artifact that a metrics row names by its digest; of several with the same output the one examined."""
    inputs = graph.inputs(index, evaluation)
    number = next((one["id"] for one in inputs if (one["kind"], one["named"]) == (kind, digest)), None)
    if number is None and digest:
        number = graph.by_digest(index, kind, digest)
    return graph.artifact(index, number) if number is not None else None


def _checkpoint(index: LineageIndex, row: sqlite3.Row | None, digest: str) -> Record:
    if row is None:
        return {"digest": digest, "state": "not in this root" if digest else "none"}
    trained = graph.inputs(index, row["id"])
    return graph.brief(row) | {
        "base": next((one["key"] for one in trained if one["kind"] == "model"), None),
        "trained_on_captions": [one["key"] for one in trained if one["kind"] == "caption_set"],
        "trained_on_shards": sum(one["kind"] == "shard" for one in trained),
        "run": row["run"],
        "commit": row["code"],
    }


def _caption_set(index: LineageIndex, row: sqlite3.Row | None, digest: str) -> Record:
    if row is None:
        return {"digest": digest, "state": "not in this root" if digest else "none"}
    rows = index.db.execute(
        "SELECT sum(artifact.rows) FROM edge JOIN artifact ON artifact.id = edge.parent WHERE edge.child = ?",
        (row["id"],),
    ).fetchone()[0]
    spec = index.db.execute("SELECT * FROM spec WHERE spec_id = ?", (row["spec_id"],)).fetchone()
    return graph.brief(row) | {
        "captions": rows,
        "spec": spec["name"] if spec else None,
        "spec_id": row["spec_id"],
        "model": spec["model"] if spec else None,
        "revision": spec["revision"] if spec else None,
    }


def _data(index: LineageIndex, number: int, split: str) -> Record:
    """The shards behind an evaluation and how to get from one of their images to its bytes."""
    inputs = graph.inputs(index, number)
    datasets = [one for one in inputs if one["kind"] == "dataset"]
    samples = [one for one in inputs if one["kind"] == "samples"]
    shards = [one for one in inputs if one["kind"] == "shard"]
    for sources in (samples, datasets):
        if not shards:
            found = {shard["id"]: shard for one in sources for shard in graph.inputs(index, one["id"])}
            shards = [one for one in found.values() if one["kind"] == "shard"]
    held = graph.images_of(index, [one["id"] for one in shards])
    images = [held[one["id"]][split] for one in shards]
    return {
        "dataset": [one["key"] for one in datasets] or _datasets(index, [one["id"] for one in shards]),
        "shards": len(shards),
        f"{split}_images": sum(images),
        "image_bytes": [
            {"file": f"{graph.folder(one)}/samples.tar", f"{split}_images": count, "state": one["state"]}
            for one, count in zip(shards, images, strict=True)
        ],
        "reach": "samples.parquet beside each tar gives member and offset; `vip audit image SHA256` re-hashes one",
    }


def _datasets(index: LineageIndex, shards: list[int]) -> list[str]:
    """The datasets that hold all of these shards, newest first."""
    import json

    rows: list[Any] = index.db.execute(
        """SELECT artifact.key FROM edge JOIN artifact ON artifact.id = edge.child
        WHERE artifact.kind = 'dataset' AND edge.parent IN (SELECT value FROM json_each(?))
        GROUP BY artifact.id HAVING count(DISTINCT edge.parent) = ? ORDER BY artifact.started DESC""",
        (json.dumps(shards), len(shards)),
    ).fetchall()
    return [row["key"] for row in rows]
