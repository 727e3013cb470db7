"""Impact: every caption, checkpoint and number that an image, prompt, model or dataset went into."""

import json
import sqlite3
from collections import Counter

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import named_file, resolve_artifact, resolve_image

_DIGITS = 4
"""Of an id that must be given at least."""

_FIGURE = ("metric_id", "metric", "value", "setting", "region", "checkpoint")
"""What is shown of a figure: the columns with which a row of :func:`graph.metrics_of` begins."""


def impact_of_image(index: LineageIndex, text: str) -> Record:
    """What used an image, given as a file, by its SHA-256 or by name.

    Each checkpoint and figure says how, by the shards that it was made from itself: a test image lies in the shards of
    a training, but was not trained on. Where nothing says any more what it was in a shard that was removed, it says so.
    """
    from vip.lineage.caption import captions_of_image  # reads Parquet; the other questions need the index alone
    from vip.lineage.usage import usage_of

    image, _ = resolve_image(index, text)
    captions, usage = captions_of_image(index, image), usage_of(index, image)
    answer = _answer(index, {"image": image.hex(), "splits": sorted({*usage.splits} - {None})}, usage.starts)
    answer["captions"] = {"count": len(captions), "rows": captions}
    answer["counts"]["captions"] = len(captions)
    for checkpoint in answer["checkpoints"]:
        checkpoint["used"] = usage.checkpoints[checkpoint["key"]]
    for metric in answer["metrics"]:
        metric["used"] = usage.metrics[metric["metric_id"]]
    return answer


def impact_of_prompt(index: LineageIndex, text: str) -> Record:
    """What used a prompt, given as the name, id or file of a spec, or as words of its templates.

    Raises:
        VipError: where no captions in the root were made with it.
    """
    _require(text, "prompt")
    specs = _specs_by_prompt(index, text)
    if not specs:
        raise VipError(
            f"no captions here were made with a prompt '{text}'", "give a spec's name, id, file or words of it"
        )
    return _answer(index, {"prompt": text, "specs": _described(specs)}, _captions_by(index, specs))


def impact_of_model(index: LineageIndex, text: str) -> Record:
    """What used a model: to caption, to train from, or to measure with.

    Args:
        index: the index of the root.
        text: its id as the spec, the training or the exam calls it (such as ``nano`` or ``efficientnet-lite0``), the
            beginning of its revision or digest, or the ref or id of a model or checkpoint that was trained from.

    Returns:
        As :func:`impact_of_prompt`; a figure that the model measured itself says so as ``used``.

    Raises:
        VipError: where nothing in the root was made with it.
    """
    _require(text, "model")
    specs = [
        row for row in index.db.execute("SELECT * FROM spec") if row["model"] == text or _begins(row["revision"], text)
    ]
    bases = _bases_called(index, text)
    figures = _measured_with(index, text)
    if not (specs or bases or figures):
        bases = [resolve_artifact(index, text, ["model", "checkpoint"])]
    of: Record = {"model": text, "specs": _described(specs), "trained_from": [row["key"] for row in bases]}
    answer = _answer(index, of, [*_captions_by(index, specs), *(row["id"] for row in bases)])
    known = {metric["metric_id"]: metric for metric in answer["metrics"]}
    for row in figures:
        known.setdefault(row["id"], _figure(row))["used"] = "measured with"
    answer["metrics"] = list(known.values())
    answer["counts"]["metrics"] = len(known)
    return answer


def _bases_called(index: LineageIndex, text: str) -> list[sqlite3.Row]:
    """The models of that name: as it was first recorded, or as a training called it that found it recorded."""
    models = index.db.execute("SELECT id, key, stats FROM artifact WHERE kind = 'model'").fetchall()
    called = {row["id"] for row in models if graph.loads(row["stats"]).get("name") == text}
    for row in index.db.execute("SELECT id, stats FROM artifact WHERE kind = 'checkpoint'").fetchall():
        if graph.loads(row["stats"]).get("base") == text:
            called |= {one["id"] for one in graph.inputs(index, row["id"]) if one["role"] == "base"}
    return [row for row in models if row["id"] in called]


def impact_of_dataset(index: LineageIndex, text: str) -> Record:
    """What used a dataset or any of its shards, given by ref (`dataset/NAME`) or id."""
    row = resolve_artifact(index, text, ["dataset"])
    parents = index.db.execute(
        "SELECT parent FROM edge JOIN artifact ON artifact.id = parent WHERE child = ? AND kind = 'shard'", (row["id"],)
    )
    shards = [one["parent"] for one in parents]
    return _answer(index, {"dataset": row["key"], "shards": len(shards)}, [row["id"], *shards])


def _measured_with(index: LineageIndex, text: str) -> list[sqlite3.Row]:
    """The figures that a feature network measured, which they name as ``name@digest``."""
    labels = [row[0] for row in index.db.execute("SELECT DISTINCT network FROM metric WHERE network IS NOT NULL")]
    meant = []
    for label in labels:
        name, _, digest = label.partition("@")
        if text in (label, name) or (digest and (_begins(digest, text) or _begins(text, digest))):
            meant.append(label)
    evaluations = index.db.execute(
        "SELECT DISTINCT artifact FROM metric WHERE network IN (SELECT value FROM json_each(?))", (json.dumps(meant),)
    )
    made = graph.metrics_of(index, [row[0] for row in evaluations]) if meant else []
    return [row for row in made if row["network"] in meant]


def _begins(whole: str | None, text: str) -> bool:
    return len(text) >= _DIGITS and bool(whole) and str(whole).startswith(text)


def _require(text: str, what: str) -> None:
    if not text.strip():
        raise VipError(f"no {what} was given", "say which")


def _specs_by_prompt(index: LineageIndex, text: str) -> list[sqlite3.Row]:
    rows = index.db.execute("SELECT * FROM spec").fetchall()
    path = named_file(text)
    if path is not None:
        from storage.yaml_file import read_yaml

        raw = read_yaml(path, "spec")
        wanted = raw.get("templates") if isinstance(raw, dict) else None
        return [row for row in rows if wanted and json.loads(row["spec"]).get("templates") == wanted]
    exact = [row for row in rows if row["name"] == text]
    if exact:
        return exact
    by_id = [row for row in rows if _begins(row["spec_id"], text) or _begins(row["answers_id"], text)]
    if by_id:
        return by_id
    return [
        row for row in rows if any(text in words for words in json.loads(row["spec"]).get("templates", {}).values())
    ]


def _captions_by(index: LineageIndex, specs: list[sqlite3.Row]) -> list[int]:
    made = index.db.execute(
        "SELECT id FROM artifact WHERE kind = 'captions' AND spec_id IN (SELECT value FROM json_each(?))",
        (json.dumps([row["spec_id"] for row in specs]),),
    )
    return [row["id"] for row in made]


def _described(specs: list[sqlite3.Row]) -> list[Record]:
    return [{name: row[name] for name in ("name", "spec_id", "model", "revision")} for row in specs]


def _answer(index: LineageIndex, of: Record, starts: list[int]) -> Record:
    """Counts of everything later, and the artifacts and figures that a person asks for."""
    later = graph.later(index, starts)
    rows = index.db.execute(
        "SELECT id, kind, rows, state FROM artifact WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([*later, *starts]),),
    ).fetchall()
    captions = [row for row in rows if row["kind"] == "captions"]
    kinds = Counter(row["kind"] for row in rows if row["id"] in later)
    metrics = graph.metrics_of(index, [row["id"] for row in rows if row["kind"] == "evaluation" and row["id"] in later])
    return {
        "of": of,
        "counts": {
            "captions": sum(row["rows"] or 0 for row in captions if row["state"] == "live"),
            "metrics": len(metrics),
        }
        | {f"{kind} artifacts": count for kind, count in sorted(kinds.items())},
        "captions": {"count": sum(row["rows"] or 0 for row in captions), "artifacts": len(captions)},
        "caption_sets": _lines(index, "caption_set", later),
        "checkpoints": _lines(index, "checkpoint", later),
        "metrics": [_figure(row) for row in metrics],
    }


def _lines(index: LineageIndex, kind: str, numbers: set[int]) -> list[Record]:
    found = index.db.execute(
        """SELECT key, digest, state, run, finished FROM artifact
        WHERE kind = ? AND id IN (SELECT value FROM json_each(?)) ORDER BY started, key""",
        (kind, json.dumps(sorted(numbers))),
    )
    return [dict(row) for row in found]


def _figure(row: sqlite3.Row) -> Record:
    return dict(zip(_FIGURE, row, strict=False))
