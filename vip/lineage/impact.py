"""Impact: every caption, checkpoint and number that an image, prompt, model or dataset went into."""

import json
import sqlite3
from pathlib import Path

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import resolve_artifact, resolve_image


def impact_of_image(index: LineageIndex, text: str) -> Record:
    """What used an image, given as a file, by its SHA-256 or by name.

    Each checkpoint and figure says how: a test image lies in the shards of a training, but was not trained on.
    """
    from vip.lineage.caption import captions_of_image  # reads Parquet; the other questions need the index alone

    image, _ = resolve_image(index, text)
    samples = index.db.execute("SELECT artifact, split FROM sample WHERE image = ?", (image,)).fetchall()
    captions = captions_of_image(index, image)
    holders = index.db.execute(
        """SELECT DISTINCT caption.artifact FROM caption WHERE image = ?1
        UNION SELECT artifact FROM sample WHERE image = ?1""",
        (image,),
    ).fetchall()
    splits = {row["split"] for row in samples}
    answer = _answer(index, {"image": image.hex(), "splits": sorted(splits)}, [row["artifact"] for row in holders])
    answer["captions"] = {"count": len(captions), "rows": captions}
    answer["counts"]["captions"] = len(captions)
    for checkpoint in answer["checkpoints"]:
        checkpoint["used"] = "trained on" if "train" in splits else "in its shards, but of the test split"
    for metric in answer["metrics"]:
        metric["used"] = "examined with" if "test" in splits else "through the checkpoint"
    return answer


def impact_of_prompt(index: LineageIndex, text: str) -> Record:
    """What used a prompt, given as the name, id or file of a spec, or as words of its templates.

    Raises:
        VipError: where no captions in the root were made with it.
    """
    specs = _specs_by_prompt(index, text)
    if not specs:
        raise VipError(
            f"no captions here were made with a prompt '{text}'", "give a spec's name, id, file or words of it"
        )
    return _of_specs(index, "prompt", text, specs)


def impact_of_model(index: LineageIndex, text: str) -> Record:
    """What used a model: one that captions (by id or revision) or one that was trained from (by ref or digest).

    Raises:
        VipError: where nothing in the root was made with it.
    """
    specs = index.db.execute("SELECT * FROM spec WHERE model = ?1 OR revision LIKE ?2", (text, f"{text}%")).fetchall()
    if specs:
        return _of_specs(index, "model", text, specs)
    row = resolve_artifact(index, text, ["model", "checkpoint"])
    return _answer(index, {"model": row["key"], "kind": row["kind"]}, [row["id"]])


def impact_of_dataset(index: LineageIndex, text: str) -> Record:
    """What used a dataset or any of its shards, given by ref (`dataset/NAME`) or id."""
    full = f"dataset/{text}"
    named = full if index.backend.exists(f"refs/{full}/00000001.json") else text
    row = resolve_artifact(index, named, ["dataset"])
    shards = [one["id"] for one in graph.inputs(index, row["id"]) if one["kind"] == "shard"]
    return _answer(index, {"dataset": row["key"], "shards": len(shards)}, [row["id"], *shards])


def _specs_by_prompt(index: LineageIndex, text: str) -> list[sqlite3.Row]:
    rows = index.db.execute("SELECT * FROM spec").fetchall()
    path = Path(text)
    if path.is_file():
        import yaml

        raw = yaml.safe_load(path.read_text())
        wanted = raw.get("templates") if isinstance(raw, dict) else None
        return [row for row in rows if wanted and json.loads(row["spec"]).get("templates") == wanted]
    exact = [row for row in rows if row["name"] == text]
    if exact:
        return exact
    by_id = [row for row in rows if row["spec_id"].startswith(text) or (row["answers_id"] or "").startswith(text)]
    if by_id:
        return by_id
    return [
        row for row in rows if any(text in words for words in json.loads(row["spec"]).get("templates", {}).values())
    ]


def _of_specs(index: LineageIndex, what: str, text: str, specs: list[sqlite3.Row]) -> Record:
    made = index.db.execute(
        "SELECT id FROM artifact WHERE kind = 'captions' AND spec_id IN (SELECT value FROM json_each(?))",
        (json.dumps([row["spec_id"] for row in specs]),),
    ).fetchall()
    described = [
        {"name": row["name"], "spec_id": row["spec_id"], "model": row["model"], "revision": row["revision"]}
        for row in specs
    ]
    return _answer(index, {what: text, "specs": described}, [row["id"] for row in made])


def _answer(index: LineageIndex, of: Record, starts: list[int]) -> Record:
    """Counts of everything later, and the artifacts and figures that a person asks for."""
    first = index.db.execute(
        "SELECT id, kind, rows, state FROM artifact WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(starts),),
    ).fetchall()
    later = graph.descendants(index, starts)
    captions = [row for row in (*first, *later) if row["kind"] == "captions"]
    kinds: dict[str, int] = {}
    for row in later:
        kinds[row["kind"]] = kinds.get(row["kind"], 0) + 1
    metrics = graph.metrics_of(index, [row["id"] for row in later if row["kind"] == "evaluation"])
    return {
        "of": of,
        "counts": {
            "captions": sum(row["rows"] or 0 for row in captions if row["state"] == "live"),
            "metrics": len(metrics),
        }
        | {f"{kind} artifacts": count for kind, count in sorted(kinds.items())},
        "captions": {"count": sum(row["rows"] or 0 for row in captions), "artifacts": len(captions)},
        "caption_sets": [_line(row) for row in later if row["kind"] == "caption_set"],
        "checkpoints": [_line(row) for row in later if row["kind"] == "checkpoint"],
        "metrics": [
            {
                "metric_id": row["id"],
                "metric": row["metric"],
                "value": row["value"],
                "setting": row["setting"],
                "region": row["region"],
                "checkpoint": row["checkpoint"],
            }
            for row in metrics
        ],
    }


def _line(row: sqlite3.Row) -> Record:
    return {
        "key": row["key"],
        "digest": row["digest"],
        "state": row["state"],
        "run": row["run"],
        "finished": row["finished"],
    }
