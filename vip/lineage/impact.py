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

_TRAINED = "trained on"
_HELD_OUT = "in its shards, but of the test split"
_EXAMINED = "examined with"
_THROUGH = "through the checkpoint"
_BESIDE = "in its shards, but neither examined with nor trained on"
_UNKNOWN = "unknown: its split in a shard that was removed is no longer recorded"


def impact_of_image(index: LineageIndex, text: str) -> Record:
    """What used an image, given as a file, by its SHA-256 or by name.

    Each checkpoint and figure says how, by the shards that it was made from itself: a test image lies in the shards of
    a training, but was not trained on. Where nothing says any more what it was in a shard that was removed, it says so.
    """
    from vip.lineage.caption import captions_of_image  # reads Parquet; the other questions need the index alone
    from vip.lineage.splits import splits_of

    image, _ = resolve_image(index, text)
    held = splits_of(index, image)
    captions = captions_of_image(index, image)
    captioned = index.db.execute("SELECT DISTINCT artifact FROM caption WHERE image = ?", (image,)).fetchall()
    starts = [*held, *(row["artifact"] for row in captioned)]
    answer = _answer(index, {"image": image.hex(), "splits": sorted({*held.values()} - {None})}, starts)
    answer["captions"] = {"count": len(captions), "rows": captions}
    answer["counts"]["captions"] = len(captions)
    _say_how(index, answer, held, starts)
    return answer


def _say_how(index: LineageIndex, answer: Record, held: dict[int, str | None], starts: list[int]) -> None:
    """Say of each checkpoint and figure in the answer how it used an image that lay in some shards (shard -> split)."""
    reached = {*starts, *graph.later(index, starts)}
    captions, checkpoints, exams = (_of_kind(index, kind, reached) for kind in ("captions", "checkpoint", "evaluation"))
    # Captions lead to whoever was told one of them; which pictures were taken is said by the shards themselves.
    shards = {split: [shard for shard, of in held.items() if of == split] for split in held.values()}
    trained = {split: graph.later(index, of, captions) for split, of in shards.items()}
    shown = {split: graph.later(index, of, [*captions, *checkpoints]) for split, of in shards.items()}
    words = (("train", _TRAINED), (None, _UNKNOWN), ("test", _HELD_OUT))
    how = {
        row["key"]: next((used for split, used in words if number in trained.get(split, ())), _UNKNOWN)
        for number, row in checkpoints.items()
    }
    for checkpoint in answer["checkpoints"]:
        checkpoint["used"] = how[checkpoint["key"]]
    through = {checkpoint["digest"]: checkpoint["used"] for checkpoint in answer["checkpoints"]}
    exam_of = {row["id"]: row["artifact"] for row in graph.metrics_of(index, list(exams))}
    for metric in answer["metrics"]:
        exam, used = exam_of[metric["metric_id"]], through.get(metric["checkpoint"])
        examined = graph.loads(exams[exam]["params"]).get("split", "test")
        if exam in shown.get(examined, ()):
            metric["used"] = _EXAMINED
        elif used == _TRAINED:
            metric["used"] = _THROUGH
        else:
            metric["used"] = _UNKNOWN if used == _UNKNOWN or exam in shown.get(None, ()) else _BESIDE


def _of_kind(index: LineageIndex, kind: str, numbers: set[int]) -> dict[int, sqlite3.Row]:
    found = index.db.execute(
        "SELECT id, key, params FROM artifact WHERE kind = ? AND id IN (SELECT value FROM json_each(?))",
        (kind, json.dumps(sorted(numbers))),
    )
    return {row["id"]: row for row in found}


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
    bases = [
        row
        for row in index.db.execute("SELECT id, key, stats FROM artifact WHERE kind = 'model'")
        if graph.loads(row["stats"]).get("name") == text
    ]
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
    by_id = [row for row in rows if row["spec_id"].startswith(text) or (row["answers_id"] or "").startswith(text)]
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
