"""Stale: what no longer matches the present prompts, models, code and datasets."""

import functools
import importlib
import sqlite3
from typing import Any

from schemas.errors import VipError
from schemas.manifest import ArtifactRef
from vip.lineage import graph
from vip.lineage.changes import changed, flat
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex

_STAGES = {"project_shard": "vip.captioning.project", "run_gate": "vip.captioning.gate"}
"""Stage -> the module whose STAGE_VERSION is the present one; a stage that is not here never had another."""

_RESOLVED = ("model", "tokenizer", "keywords")
"""Parts of a spec that are settled when it is used, so that its file does not say what they are."""


def stale(index: LineageIndex, spec: str | None = None) -> list[Record]:
    """Look at everything that a ref points at now, and at what that was made from.

    Args:
        index: the index of the root.
        spec: also compare all captions with this spec (a built-in name or a file), whatever theirs was called.

    Returns:
        One line for each reason: ``ref``, ``kind``, ``key``, ``reason`` (``prompt``, ``model``, ``stage version``,
        ``superseded``, ``removed``), ``detail``, and ``rows``, the captions concerned.
    """
    now, before = _refs(index)
    found: dict[tuple[str, str, str, str], Record] = {}
    for name, number in now.items():
        target = graph.artifact(index, number)
        for row in [target, *(graph.artifact(index, one["id"]) for one in graph.ancestors(index, [number]))]:
            for reason, detail in _reasons(index, row, before, spec):
                key = (name, row["kind"], reason, detail)
                if key in found:
                    found[key]["artifacts"] += 1
                    found[key]["rows"] += row["rows"] or 0 if row["kind"] == "captions" else 0
                else:
                    found[key] = {
                        "ref": name,
                        "kind": row["kind"],
                        "key": row["key"],
                        "reason": reason,
                        "detail": detail,
                        "artifacts": 1,
                        "rows": row["rows"] or 0 if row["kind"] == "captions" else 0,
                    }
    return list(found.values())


def _refs(index: LineageIndex) -> tuple[dict[str, int], dict[int, tuple[str, ArtifactRef]]]:
    """Ref -> its present target; and every earlier target of a ref that moved on -> (ref, its present target)."""
    from storage.refs import Refs

    refs = Refs(index.backend)
    now: dict[str, int] = {}
    before: dict[int, tuple[str, ArtifactRef]] = {}
    for name in refs.names():
        log = refs.log(name)
        last = graph.node(index, log[-1].target.kind, log[-1].target.key)
        if last is not None:
            now[name] = last
        for entry in log[:-1]:
            number = graph.node(index, entry.target.kind, entry.target.key)
            if number is not None and number != last:
                before[number] = (name, log[-1].target)
    for number in now.values():
        before.pop(number, None)
    return now, before


def _reasons(
    index: LineageIndex, row: sqlite3.Row, before: dict[int, tuple[str, ArtifactRef]], spec: str | None
) -> list[tuple[str, str]]:
    found = []
    if row["state"] != "live":
        return [("removed" if row["state"] == "removed" else row["state"], row["problem"] or "")]
    version = _stage_version(row["stage"])
    if version is not None and row["stage_version"] != version:
        found.append(("stage version", f"{row['stage']} was at {row['stage_version']}, is at {version}"))
    for one in graph.inputs(index, row["id"]):
        if one["id"] in before:
            name, target = before[one["id"]]
            found.append(("superseded", f"its {one['role']} is no longer {name}, which is {target.digest[:16]}"))
    if row["kind"] == "captions":
        found += _of_spec(row, spec)
    elif row["kind"] == "caption_set":
        found += _of_dataset(index, row, before)
    return found


def _of_dataset(
    index: LineageIndex, row: sqlite3.Row, before: dict[int, tuple[str, ArtifactRef]]
) -> list[tuple[str, str]]:
    """A caption set names its dataset in its stats: a version that changed no image of a shard changes no caption."""
    place = graph.loads(row["stats"]).get("dataset")
    number = graph.node(index, "dataset", place["key"]) if isinstance(place, dict) else None
    if number is None or number not in before:
        return []
    name, target = before[number]
    mine = {one["digest"] for part in graph.inputs(index, row["id"]) for one in graph.inputs(index, part["id"])}
    latest = graph.node(index, "dataset", target.key)
    theirs = {one["digest"] for one in graph.inputs(index, latest)} if latest is not None else set()
    missing = len(theirs - mine)
    return [("superseded", f"{name} has {missing} shards that it does not caption")] if missing else []


def _of_spec(row: sqlite3.Row, spec: str | None) -> list[tuple[str, str]]:
    """Compare the spec of some captions with what its name, or the given one, means now."""
    made, name = graph.loads(row["params"]).get("spec", {}), graph.loads(row["stats"]).get("spec")
    found = []
    present = _present(spec or str(name), bool(made.get("keywords")), strict=spec is not None)
    if present is not None:
        old = {key: value for key, value in made.items() if key not in _RESOLVED}
        new = {key: value for key, value in present.items() if key not in _RESOLVED}
        differing = [what for what, _ in changed(flat(old), flat(new))]
        if differing:
            found.append(("prompt", f"spec {spec or name} now differs in {', '.join(differing[:3])}"))
    model = made.get("model", {})
    checked = model.get("revision") and not model.get("declared")
    revision = _present_revision(model["id"]) if checked else None
    if revision is not None and revision != model["revision"]:
        found.append(("model", f"{model['id']} was {model['revision'][:16]}, is {revision[:16]}"))
    return found


@functools.cache
def _present(name: str, with_keywords: bool, strict: bool) -> dict[str, Any] | None:
    """The spec of that name as it is now; None for a file of the user's that is not at hand."""
    from vip.captioning.specs import builtin_specs, load_spec

    if not strict and name not in builtin_specs():
        return None
    present = load_spec(name).params
    templates = dict(present["templates"])
    filled = templates.pop("imagine_keywords", None)
    if with_keywords and filled is not None:
        templates["imagine"] = filled
    return present | {"templates": templates}


@functools.cache
def _present_revision(model: str) -> str | None:
    """The digest of a captioning model's weights as they lie here now; None where it is not one of ours."""
    from storage.models import find_model, model_digest

    if model != "nano":
        return None
    try:
        return model_digest(find_model(model, "captioner"))
    except VipError:
        return None  # it is not on this machine, so nothing can be said


def _stage_version(stage: str | None) -> int | None:
    if stage not in _STAGES:
        return None
    return int(importlib.import_module(_STAGES[stage]).STAGE_VERSION)
