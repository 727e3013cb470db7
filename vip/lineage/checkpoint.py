"""What a checkpoint was trained on, and what was measured on it."""

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import resolve_artifact
from vip.lineage.rows import check_manifest


def trace_checkpoint(index: LineageIndex, text: str) -> Record:
    """The captions, images, base model, configuration and figures of a checkpoint.

    Args:
        index: the index of the root.
        text: a ref, or a unique prefix of its key or digest.

    Returns:
        ``checkpoint``, ``params``, ``base``, ``captions`` (set, spec, model), ``data`` (shards, images by split),
        ``metrics``, ``made_by`` and ``checks``.
    """
    row = resolve_artifact(index, text, ["checkpoint"])
    trained = graph.inputs(index, row["id"])
    shards = [one for one in trained if one["kind"] == "shard"]
    evaluations = [one["id"] for one in graph.descendants(index, [row["id"]]) if one["kind"] == "evaluation"]
    figures = graph.metrics_of(index, evaluations)
    return {
        "checkpoint": graph.brief(row) | {"folder": graph.folder(row), "bytes": row["bytes"]},
        "params": graph.loads(row["params"]),
        "base": [graph.brief(one) for one in trained if one["kind"] == "model"],
        "captions": [_captions(index, one["id"]) for one in trained if one["kind"] == "caption_set"],
        "data": {"shards": len(shards)} | _splits(index, [one["id"] for one in shards]),
        "stats": graph.loads(row["stats"]),
        "metrics": [
            {name: one[name] for name in ("id", "metric", "value", "unit", "n", "setting", "region", "network")}
            for one in figures
            if one["checkpoint"] == row["digest"]
        ],
        "made_by": graph.made_by(row),
        "checks": [check_manifest(index, row)],
    }


def _captions(index: LineageIndex, number: int) -> Record:
    row = graph.artifact(index, number)
    spec = index.db.execute("SELECT * FROM spec WHERE spec_id = ?", (row["spec_id"],)).fetchone()
    parts = [one for one in graph.inputs(index, number) if one["kind"] == "captions"]
    return {
        "caption_set": row["key"],
        "state": row["state"],
        "captions": sum(one["rows"] or 0 for one in parts),
        "spec": spec["name"] if spec else None,
        "spec_id": row["spec_id"],
        "model": spec["model"] if spec else None,
        "revision": spec["revision"] if spec else None,
    }


def _splits(index: LineageIndex, shards: list[int]) -> Record:
    held = graph.images_of(index, shards).values()
    return {f"{split}_images": sum(one[split] for one in held) for split in ("train", "test")}


def trace_log(index: LineageIndex, name: str) -> list[Record]:
    """Every entry of a ref, newest first, with what became of its target.

    Raises:
        VipError: where no ref has that name.
    """
    from storage.refs import Refs

    entries = Refs(index.backend).log(name)
    if not entries:
        raise VipError(f"no ref is called '{name}'", "see `vip ref list`")
    log = []
    for entry in reversed(entries):
        number = graph.node(index, entry.target.kind, entry.target.key)
        row = graph.artifact(index, number) if number is not None else None
        log.append(
            {
                "number": entry.number,
                "at": entry.at.isoformat(timespec="seconds"),
                "kind": entry.target.kind,
                "key": entry.target.key,
                "state": row["state"] if row else "dangling",
                "run": row["run"] if row else None,
                "note": entry.note,
            }
        )
    return log
