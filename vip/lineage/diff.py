"""Diff: what differs between two caption sets, checkpoints or figures, and why."""

import sqlite3
from typing import Any

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.changes import changed, flat
from vip.lineage.diff_captions import diff_captions
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex
from vip.lineage.metric import figures_fitting, resolve_metric
from vip.lineage.resolve import artifacts_fitting, is_prefix, resolve_artifact

_MANY = ("captions", "shard", "samples", "features")
"""Kinds of which an artifact has one a shard or chunk: counted, not listed one by one."""


def diff(index: LineageIndex, first: str, second: str) -> Record:
    """Compare two artifacts of one kind, or two figures.

    Args:
        index: the index of the root.
        first, second: refs or ids of two caption sets, checkpoints or other artifacts, or two metric ids.

    Returns:
        For caption sets ``rows`` and ``changes`` with the cause of each changed row; for the rest ``differs``, every
        parameter, input and piece of code in which they differ, down to the inputs of their inputs.

    Raises:
        VipError: where they are not of one kind.
    """
    if _is_figure(index, first) and _is_figure(index, second):
        return _metrics(index, resolve_metric(index, first), resolve_metric(index, second))
    rows = resolve_artifact(index, first), resolve_artifact(index, second)
    if rows[0]["kind"] != rows[1]["kind"]:
        raise VipError(f"a {rows[0]['kind']} and a {rows[1]['kind']} cannot be compared", "give two of one kind")
    answer: Record = {"first": graph.brief(rows[0]), "second": graph.brief(rows[1])}
    if rows[0]["kind"] == "caption_set":
        answer |= diff_captions(index, rows[0], rows[1])
    return answer | {"differs": differences(index, rows[0], rows[1])}


def _is_figure(index: LineageIndex, text: str) -> bool:
    """Whether ``text`` is meant as the id of a figure.

    Raises:
        VipError: where it fits a figure as well as an artifact.
    """
    figures = figures_fitting(index, text) if is_prefix(text) else []
    if figures and (others := artifacts_fitting(index, text)):
        raise VipError(
            f"'{text}' fits a figure as well as {others[0]['kind']}/{others[0]['key'][:16]}", "give more digits"
        )
    return bool(figures)


def _metrics(index: LineageIndex, first: sqlite3.Row, second: sqlite3.Row) -> Record:
    columns = ("id", "metric", "value", "low", "high", "n", "setting", "view", "region", "network", "unit")
    owners = graph.artifact(index, first["artifact"]), graph.artifact(index, second["artifact"])
    row_level = [
        {"where": "the figure", "what": name, "first": first[name], "second": second[name]}
        for name in ("metric", "n", "setting", "view", "region", "network", "unit")
        if first[name] != second[name]
    ]
    return {
        "first": {name: first[name] for name in columns},
        "second": {name: second[name] for name in columns},
        "moved": {"by": second["value"] - first["value"], "comparable": first["metric"] == second["metric"]},
        "differs": row_level + differences(index, owners[0], owners[1]),
    }


def differences(index: LineageIndex, first: sqlite3.Row, second: sqlite3.Row) -> list[Record]:
    """Everything in which two artifacts differ, their own parameters before those of their inputs."""
    found: list[Record] = []
    _compare(index, first["kind"], first, second, found, set())
    return found


def _compare(
    index: LineageIndex, where: str, first: sqlite3.Row, second: sqlite3.Row, found: list[Record], seen: set[Any]
) -> None:
    if (first["digest"] == second["digest"] and first["key"] == second["key"]) or (first["id"], second["id"]) in seen:
        return
    seen.add((first["id"], second["id"]))
    before = len(found)
    params = flat(graph.loads(first["params"])), flat(graph.loads(second["params"]))
    found += [_line(where, name, *pair) for name, pair in changed(*params)]
    code = (("stage version", "stage_version"), ("code commit", "code"), ("code with uncommitted changes", "dirty"))
    for name, column in code:
        if first[column] != second[column]:
            found.append(_line(where, name, first[column], second[column]))
    packages = graph.loads(first["packages"]), graph.loads(second["packages"])
    found += [_line(where, f"package {name}", *pair) for name, pair in changed(*packages)]
    machines = (graph.loads(row["stats"]).get("machine", {}) for row in (first, second))
    found += [_line(where, f"machine {name}", *pair) for name, pair in changed(*machines)]
    _inputs(index, where, first, second, found, seen)
    if len(found) == before and first["digest"] != second["digest"]:
        found.append(_line(where, "output, from equal inputs and params", first["digest"], second["digest"]))


def _inputs(
    index: LineageIndex, where: str, first: sqlite3.Row, second: sqlite3.Row, found: list[Record], seen: set[Any]
) -> None:
    ours = {row["role"]: row for row in graph.inputs(index, first["id"])}
    theirs = {row["role"]: row for row in graph.inputs(index, second["id"])}
    counts: dict[str, list[int]] = {}
    for role in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(role), theirs.get(role)
        kind = (one or other)["kind"]  # type: ignore[index]
        if one is not None and other is not None and one["named"] == other["named"]:
            continue
        if kind in _MANY:
            count = counts.setdefault(kind, [0, 0, 0])
            count[0 if other is None else 1 if one is None else 2] += 1
            if one is None or other is None or count[2] > 1:
                continue  # one changed pair tells the parameters in which all of them differ
        else:
            found.append(_line(where, role, one and one["named"], other and other["named"]))
        if one is not None and other is not None:
            pair = graph.artifact(index, one["id"]), graph.artifact(index, other["id"])
            _compare(index, f"{where} > {kind if kind in _MANY else role}", pair[0], pair[1], found, seen)
    for kind, (gone, new, other_count) in counts.items():
        words = f"{other_count} changed, {new} only in the second, {gone} only in the first"
        found.append(_line(where, f"{kind} inputs", words, ""))


def _line(where: str, what: str, first: Any, second: Any) -> Record:
    return {"where": where, "what": what, "first": first, "second": second}
