"""Where a caption came from: image, shard, spec, answers, model, run."""

import sqlite3
from datetime import UTC, datetime
from typing import Any

from schemas.errors import VipError
from storage.answers import Answers
from vip.lineage import graph
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import resolve_caption
from vip.lineage.rows import check_file, check_image, check_manifest, read_row, read_rows

_ANSWER = ("part", "draw", "text", "finish_reason", "error", "prompt_tokens", "completion_tokens", "attempts")
_SERVED = ("seconds", "answered_at", "model_id", "endpoint", "server")


def trace_caption(index: LineageIndex, text: str) -> Record:
    """The chain behind one caption, every link re-hashed as it is read.

    Args:
        index: the index of the root.
        text: a unique prefix of the caption's id.

    Returns:
        ``caption``, ``image``, ``shard``, ``spec`` (rendered prompts, sampling), ``answers`` (raw text, request id,
        segment), ``model``, ``made_by`` (run, code), ``held_by``, ``used_by`` and ``checks``.

    Raises:
        VipError: where no caption, or more than one, fits, or its table cannot be read.
    """
    _, places = resolve_caption(index, text)
    place = places[0]
    owner = graph.artifact(index, place["artifact"])
    table = "rejects.parquet" if place["rejected"] else "captions.parquet"
    row = read_row(index, owner, table, place["row"])
    shard = graph.input_of(index, owner["id"], "shard")
    spec = graph.loads(owner["params"]).get("spec", {})
    answers = _answers(index, owner, row)
    checks = [check_manifest(index, owner), check_file(index, owner, table)]
    image: Record = {"sha256": row["image_sha256"]}
    if shard is not None:
        image, image_check = _image(index, shard["id"], row["image_sha256"])
        checks.append(image_check)
    checks += _answer_checks(row, answers)
    hidden = ("view_json", "region_json", "request_ids", "draws", "raw")
    return {
        "caption": {name: value for name, value in row.items() if name not in hidden}
        | {"accepted": not place["rejected"]},
        "image": image,
        "shard": graph.brief(shard) | {"folder": graph.folder(shard)} if shard is not None else None,
        "spec": _spec(index, owner, spec, row),
        "answers": answers,
        "model": spec.get("model"),
        "made_by": graph.made_by(owner),
        "held_by": [{"captions": one["key"], "row": one["row"], "state": one["state"]} for one in places],
        "used_by": _used_by(index, [one["artifact"] for one in places if not one["rejected"]]),
        "checks": checks,
    }


def _image(index: LineageIndex, shard: int, sha256: str) -> tuple[Record, Record]:
    owner = graph.artifact(index, shard)
    found = index.db.execute(
        "SELECT row FROM sample WHERE image = ? AND artifact = ?", (bytes.fromhex(sha256[:32]), shard)
    ).fetchone()
    if found is None:
        why = owner["problem"] or "the shard does not hold it"
        return {"sha256": sha256}, {"what": f"image {sha256[:16]}", "ok": False, "found": why}
    sample = read_row(index, owner, "samples.parquet", found["row"])
    image = {"sha256": sha256} | {
        name: sample[name] for name in ("member", "split", "format", "width", "height", "bytes")
    }
    return image, check_image(index, owner, sample)


def _spec(index: LineageIndex, owner: sqlite3.Row, dump: dict[str, Any], row: Record) -> Record:
    named = index.db.execute("SELECT answers_id, name FROM spec WHERE spec_id = ?", (row["spec_id"],)).fetchone()
    return {
        "name": named["name"] if named else None,
        "spec_id": row["spec_id"],
        "answers_id": named["answers_id"] if named else None,
        "strategy": dump.get("strategy"),
        "prompts": _prompts(owner, dump, row),
        "sampling": dump.get("sampling"),
        "constraint": dump.get("constraint"),
        "preprocessing": dump.get("preprocessing"),
        "budget": dump.get("budget"),
        "parser": dump.get("parser"),
        "tokenizer": dump.get("tokenizer"),
        "round": graph.loads(owner["params"]).get("round"),
    }


def _prompts(owner: sqlite3.Row, dump: dict[str, Any], row: Record) -> dict[str, str]:
    """The text of each request as it was sent, its placeholders filled in."""
    templates = dump.get("templates", {})
    if not any("{" in text for text in templates.values()):
        return templates
    from schemas.bank import Bank
    from schemas.region import View, masks_of, read_region
    from schemas.spec import CaptionSpec
    from vip.captioning.request import RequestBuilder

    builder = RequestBuilder(CaptionSpec.model_validate({"name": "unnamed", **dump}))
    view = View.model_validate_json(row["view_json"])
    bank = Bank.model_validate(graph.loads(owner["stats"]).get("bank", {}))
    region = read_region(row["region_json"], masks_of(bank.regions))
    return {part: builder.text(view, region, part) for part in builder.spec.parts}


def _answers(index: LineageIndex, owner: sqlite3.Row, row: Record) -> list[Record]:
    """The answers that the caption was made of, in the order in which it names them."""
    named = index.db.execute("SELECT answers_id FROM spec WHERE spec_id = ?", (row["spec_id"],)).fetchone()
    wanted = dict.fromkeys(row["request_ids"])
    if named is None or not wanted:
        return []
    answers = Answers(index.backend, named["answers_id"])
    missing = set(wanted)
    for segment in answers.segments_of(row["image_sha256"]):
        if not missing:
            break
        try:
            table = answers.read(segment)
        except VipError as error:
            for request_id in missing:
                wanted[request_id] = {"request_id": request_id, "segment": segment.path, "problem": error.reason}
            continue
        identifiers = table.column("request_id").to_pylist()
        for place, request_id in enumerate(identifiers):
            if request_id in missing:
                missing.discard(request_id)
                wanted[request_id] = (
                    {"request_id": request_id}
                    | {name: _value(table, name, place) for name in (*_ANSWER, *_SERVED)}
                    | {"segment": segment.path, "row": place}
                )
    return [found or {"request_id": request_id, "problem": "not in the store"} for request_id, found in wanted.items()]


def _value(table: Any, name: str, place: int) -> Any:
    """One cell; a time as ISO 8601, made without pyarrow's own way, which imports pandas where that is installed."""
    cell = table.column(name)[place]
    if name != "answered_at":
        return cell.as_py()
    return datetime.fromtimestamp(cell.value / 1e6, UTC).isoformat(timespec="milliseconds")


def _answer_checks(row: Record, answers: list[Record]) -> list[Record]:
    checks = []
    for answer in answers:
        what = answer.get("segment") or f"answer {answer['request_id'][:16]}"
        problem = answer.get("problem")
        checks.append({"what": what, "ok": problem is None, "found": problem or "as published"})
    if row["request_ids"] and not answers:
        checks.append(
            {"what": "answers", "ok": False, "found": f"no partition is known for spec {row['spec_id'][:16]}"}
        )
    return checks


def _used_by(index: LineageIndex, numbers: list[int]) -> Record:
    """How many artifacts of each later kind were made with it, and the checkpoints by key."""
    later = graph.descendants(index, numbers)
    counts: dict[str, int] = {}
    for one in later:
        counts[one["kind"]] = counts.get(one["kind"], 0) + 1
    return counts | {"checkpoints": [one["key"] for one in later if one["kind"] == "checkpoint"]}


def captions_of_image(index: LineageIndex, image: bytes) -> list[Record]:
    """Every caption of an image: one line for each id, the newest artifact that holds it, rejected ones too."""
    found: dict[bytes, Record] = {}
    tables: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for place in index.db.execute(
        """SELECT caption.* FROM caption JOIN artifact ON artifact.id = caption.artifact WHERE caption.image = ?
        ORDER BY caption.rejected, artifact.started DESC""",
        (image,),
    ).fetchall():
        if place["id"] in found:
            continue
        owner = graph.artifact(index, place["artifact"])
        name = "rejects.parquet" if place["rejected"] else "captions.parquet"
        if (owner["id"], name) not in tables:
            tables[owner["id"], name] = read_rows(index, owner, name)
        row = tables[owner["id"], name][place["row"]]
        found[place["id"]] = {
            "caption_id": row["caption_id"],
            "view": row["view"],
            "region": row["region"],
            "spec": graph.loads(owner["stats"]).get("spec") or row["spec_id"][:16],
            "centre": row.get("centre", ""),
            "surrounding": row.get("surrounding", ""),
            "rejected": row.get("reason", ""),
        }
    return list(found.values())
