"""Diff of caption sets: added, removed and changed rows, and the cause of each change."""

import sqlite3
from typing import Any

from schemas.spec import CAUSES, READING
from schemas.tables import CAPTION_REJECTS, CAPTIONS
from storage.answers import Answers
from storage.tables import read_table
from vip.captioning.leakage import split_leaks
from vip.lineage import graph
from vip.lineage.changes import changed, flat
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex
from vip.lineage.resolve import require_live

_KEY = ["image_sha256", "view", "region"]
_COLUMNS = [*_KEY, "caption_id", "centre", "surrounding", "request_ids", "draws"]
_WORDS = {"template": "prompt", "constraint": "output constraint", READING: "reading of the answers"}
"""What a diff calls a cause, where that is not its own name."""
_SHOWN = 50
_ASKED_SHARDS = 16

Key = tuple[str, str, str]


def diff_captions(index: LineageIndex, first: sqlite3.Row, second: sqlite3.Row) -> Record:
    """Compare two caption sets row by row; a row is one (image, view, region).

    Returns:
        ``rows`` (counts, and counts by cause), ``changes`` (the first 50 changed rows), and ``own_disagreement``: how
        often the model contradicted itself where a request of these shards was answered more than once. Where one set
        is of a joint spec and the other of a split one, also ``leaks``: halves of joint captions that say what only
        the other part shows.

    Raises:
        VipError: where captions in which they differ were removed.
    """
    ours, theirs = _parts(index, first), _parts(index, second)
    shared = {part["digest"] for part in ours.values()} & {part["digest"] for part in theirs.values()}
    for part in (*ours.values(), *theirs.values()):
        if part["digest"] not in shared:
            require_live(part)
    old, new = _read(index, ours, shared), _read(index, theirs, shared)
    rejected = _rejects(index, theirs, shared)
    specs = _spec(ours), _spec(theirs)
    parts = {name.split(".")[0] for name, _ in changed(flat(specs[0]), flat(specs[1]))}
    causes = sorted(_WORDS.get(cause, cause) for cause in {CAUSES.get(part, part) for part in parts})
    same = sum(part["rows"] or 0 for part in ours.values() if part["digest"] in shared)
    counts = {"unchanged": same, "changed": 0, "added": 0, "removed": 0}
    by_cause: dict[str, int] = {}
    changes: list[Record] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before is not None and after is not None and _text(before) == _text(after):
            counts["unchanged"] += 1
            continue
        what = "added" if before is None else "removed" if after is None else "changed"
        counts[what] += 1
        cause = _cause(what, causes, before, after, rejected.get(key))
        by_cause[f"{what}: {cause}"] = by_cause.get(f"{what}: {cause}", 0) + 1
        if len(changes) < _SHOWN:
            changes.append(_change(key, what, cause, before, after))
    found: Record = {
        "rows": counts,
        "causes": by_cause,
        "own_disagreement": _own_disagreement(index, [*ours.values(), *theirs.values()], shared),
    }
    by_strategy = {specs[0].get("strategy"): old, specs[1].get("strategy"): new}
    if by_strategy.keys() == {"joint", "split"}:
        found["leaks"] = _leaks(by_strategy["joint"], by_strategy["split"])
    return found | {"changes": changes}


def _leaks(joint: dict[Key, dict[str, Any]], split: dict[Key, dict[str, Any]]) -> Record:
    leaks = split_leaks(joint, split)
    rows = [
        {
            "caption": leak.caption_id,
            "surrounding restates": ", ".join(leak.surrounding_restates),
            "centre foresees": ", ".join(leak.centre_foresees),
        }
        for leak in leaks[:_SHOWN]
    ]
    return {"leaking": len(leaks), "of": len(joint.keys() & split.keys()), "rows": rows}


def _parts(index: LineageIndex, caption_set: sqlite3.Row) -> dict[str, sqlite3.Row]:
    """Role -> the captions of one shard."""
    found = [row for row in graph.inputs(index, caption_set["id"]) if row["kind"] == "captions"]
    return {row["role"]: graph.artifact(index, row["id"]) for row in found}


def _read(index: LineageIndex, parts: dict[str, sqlite3.Row], shared: set[str]) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    for part in parts.values():
        if part["digest"] not in shared:
            data = index.backend.get(f"{graph.folder(part)}/captions.parquet")
            for row in read_table(data, CAPTIONS, _COLUMNS).to_pylist():
                found[row["image_sha256"], row["view"], row["region"]] = row | {"stage_version": part["stage_version"]}
    return found


def _rejects(index: LineageIndex, parts: dict[str, sqlite3.Row], shared: set[str]) -> dict[Key, str]:
    found: dict[Key, str] = {}
    for part in parts.values():
        if part["digest"] not in shared and "rejects.parquet" in graph.loads(part["outputs"]):
            data = index.backend.get(f"{graph.folder(part)}/rejects.parquet")
            for row in read_table(data, CAPTION_REJECTS, [*_KEY, "reason"]).to_pylist():
                found[row["image_sha256"], row["view"], row["region"]] = row["reason"]
    return found


def _spec(parts: dict[str, sqlite3.Row]) -> dict[str, Any]:
    part = next(iter(parts.values()), None)
    return graph.loads(part["params"]).get("spec", {}) if part is not None else {}


def _text(row: dict[str, Any]) -> tuple[str, str]:
    return row["centre"], row["surrounding"]


def _cause(
    what: str, causes: list[str], before: dict[str, Any] | None, after: dict[str, Any] | None, reason: str | None
) -> str:
    if after is None:
        return f"rejected ({reason})" if reason else "not in the second set's dataset or bank"
    if before is None:
        return "not accepted in the first set, or not in its dataset or bank"
    if causes:
        return " and ".join(causes)
    if before["draws"] != after["draws"]:
        return "another draw (a rejected row was asked again)"
    if before["stage_version"] != after["stage_version"]:
        return "reading of the answers (another version of the code)"
    return "other answers to the same requests"


def _change(key: Key, what: str, cause: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> Record:
    return {
        "image": key[0],
        "view": key[1],
        "region": key[2],
        "what": what,
        "cause": cause,
        "first": f"{before['centre']} | {before['surrounding']}" if before else "",
        "second": f"{after['centre']} | {after['surrounding']}" if after else "",
        "ids": [row["caption_id"] for row in (before, after) if row],
    }


def _own_disagreement(index: LineageIndex, parts: list[sqlite3.Row], shared: set[str]) -> Record:
    """Rows that were asked more than once under one spec, and how many of them got another text."""
    asked = differed = 0
    for part in [one for one in parts if one["digest"] not in shared][:_ASKED_SHARDS]:
        spec = index.db.execute("SELECT answers_id FROM spec WHERE spec_id = ?", (part["spec_id"],)).fetchone()
        shard = graph.input_of(index, part["id"], "shard")
        if spec is None or shard is None:
            continue
        prefix = str(graph.loads(graph.artifact(index, shard["id"])["params"]).get("prefix", ""))
        texts: dict[tuple[str, ...], dict[int, str]] = {}
        columns = ("image_sha256", "view", "region", "part", "draw", "text")
        for answer in Answers(index.backend, spec["answers_id"]).look_up(prefix, columns).values():
            if answer["text"] is not None:
                key = (answer["image_sha256"], answer["view"], answer["region"], answer["part"])
                texts.setdefault(key, {})[answer["draw"]] = answer["text"]
        several = [draws for draws in texts.values() if len(draws) > 1]
        asked += len(several)
        differed += sum(len(set(draws.values())) > 1 for draws in several)
    known = "" if asked else "no request was answered more than once"
    return {"asked_more_than_once": asked, "answers_differed": differed, "note": known}
