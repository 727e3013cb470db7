"""Walks over the index: one artifact, what it came from, what came of it."""

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from storage.layout import artifact_folder
from vip.lineage.index import LineageIndex

Record = dict[str, Any]
"""What a question answers with: JSON-ready, in the order in which a person wants to read it."""

_COLUMNS = (
    "id, kind, key, digest, state, problem, stage, stage_version, code, dirty, run, started, finished, rows, spec_id"
)


def node(index: LineageIndex, kind: str, key: str) -> int | None:
    """The number of an artifact inside the index, or None."""
    row = index.db.execute("SELECT id FROM artifact WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return row["id"] if row else None


def by_digest(index: LineageIndex, kind: str, digest: str) -> int | None:
    """The artifact of that kind with that digest; a live one before a removed one."""
    row = index.db.execute(
        "SELECT id FROM artifact WHERE digest = ? AND kind = ? ORDER BY state = 'live' DESC, started LIMIT 1",
        (digest, kind),
    ).fetchone()
    return row["id"] if row else None


def artifact(index: LineageIndex, number: int) -> sqlite3.Row:
    """Every column of one artifact."""
    return index.db.execute("SELECT * FROM artifact WHERE id = ?", (number,)).fetchone()


def brief(row: sqlite3.Row) -> Record:
    """One artifact in a line: what it is and whether it stands."""
    short = {"kind": row["kind"], "key": row["key"], "digest": row["digest"], "state": row["state"]}
    if row["problem"]:
        short["problem"] = row["problem"]
    return short


def made_by(row: sqlite3.Row) -> Record:
    """The run, the code and, where networks computed it, the machine that made an artifact."""
    return {
        "stage": row["stage"],
        "stage_version": row["stage_version"],
        "run": row["run"],
        "started": row["started"],
        "finished": row["finished"],
        "commit": row["code"],
        "dirty": None if row["dirty"] is None else bool(row["dirty"]),
        "packages": loads(row["packages"]),
        "machine": loads(row["stats"]).get("machine"),
    }


def folder(row: sqlite3.Row) -> str:
    """Where the files of an artifact lie, relative to the root."""
    return artifact_folder(row["kind"], row["key"], row["digest"] or "")


def loads(text: str | None) -> dict[str, Any]:
    """A JSON column as a dictionary; empty where there is none."""
    return json.loads(text) if text else {}


def inputs(index: LineageIndex, number: int) -> list[sqlite3.Row]:
    """The artifacts that one was made from, each with its ``role`` and the ``named`` digest."""
    columns = ", ".join(f"artifact.{name.strip()}" for name in _COLUMNS.split(","))
    return index.db.execute(
        f"SELECT {columns}, edge.role, edge.digest AS named FROM edge "  # noqa: S608 - column names of ours
        "JOIN artifact ON artifact.id = edge.parent WHERE edge.child = ? ORDER BY edge.role",
        (number,),
    ).fetchall()


def input_of(index: LineageIndex, number: int, kind: str) -> sqlite3.Row | None:
    """The first input of one kind, or None."""
    return next((row for row in inputs(index, number) if row["kind"] == kind), None)


def images_of(index: LineageIndex, shards: Iterable[int]) -> dict[int, dict[str, int]]:
    """Images of each split in each shard, as its manifest counted them: one that was removed held them all the same."""
    rows = index.db.execute(
        """SELECT id, coalesce(json_extract(stats, '$.train'), 0), coalesce(json_extract(stats, '$.test'), 0)
        FROM artifact WHERE id IN (SELECT value FROM json_each(?))""",
        (json.dumps(list(shards)),),
    )
    return {shard: {"train": train, "test": test} for shard, train, test in rows}


def descendants(index: LineageIndex, numbers: list[int]) -> list[sqlite3.Row]:
    """Everything made from the given artifacts, directly or not, without themselves; by kind, oldest first."""
    return _closure(index, numbers, "child", "parent")


def ancestors(index: LineageIndex, numbers: list[int]) -> list[sqlite3.Row]:
    """Everything the given artifacts were made from, directly or not, without themselves."""
    return _closure(index, numbers, "parent", "child")


def _closure(index: LineageIndex, numbers: list[int], to: str, by: str) -> list[sqlite3.Row]:
    return index.db.execute(
        f"""SELECT {_COLUMNS} FROM artifact WHERE id IN (SELECT value FROM json_each(?))
        ORDER BY kind, started, key""",  # noqa: S608 - column names of ours
        (json.dumps(sorted(_reached(index, numbers, to, by))),),
    ).fetchall()


def later(index: LineageIndex, numbers: list[int], past: Iterable[int] = ()) -> set[int]:
    """The numbers alone of what :func:`descendants` gives; nothing is reached by way of those in ``past``."""
    return _reached(index, numbers, "child", "parent", past)


def _reached(index: LineageIndex, numbers: list[int], to: str, by: str, past: Iterable[int] = ()) -> set[int]:
    # Level by level: with tens of thousands of edges a recursive query takes twice as long.
    known = {*numbers, *past}
    reached, front = set(known), numbers
    while front:
        found = index.db.execute(
            f"SELECT DISTINCT {to} FROM edge WHERE {by} IN (SELECT value FROM json_each(?))",  # noqa: S608 - ours
            (json.dumps(front),),
        ).fetchall()
        front = [row[0] for row in found if row[0] not in reached]
        reached.update(front)
    return reached - known


def metrics_of(index: LineageIndex, numbers: list[int]) -> list[sqlite3.Row]:
    """The figures of some evaluations, in the order in which they were made; of each what the questions show."""
    return index.db.execute(
        """SELECT metric.id, metric, value, setting, region, checkpoint, unit, n, network, metric.artifact
        FROM metric JOIN artifact ON artifact.id = metric.artifact
        WHERE metric.artifact IN (SELECT value FROM json_each(?)) ORDER BY artifact.started, metric.rowid""",
        (json.dumps(numbers),),
    ).fetchall()
