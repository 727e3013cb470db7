"""What made a picture that was painted with a checkpoint of a root."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from schemas.manifest import ArtifactRef
from vip.lineage import graph
from vip.lineage.checkpoint import trace_checkpoint
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex


def trace_picture(index: LineageIndex, lineage: Mapping[str, Any]) -> Record:
    """What a picture says made it, and where the checkpoint that it names stands.

    Args:
        index: the index of the root.
        lineage: as :func:`vip.outpaint.files.read_lineage` reads it from the picture.

    Returns:
        ``picture`` (all that it says) and ``known``; where the root knows the checkpoint also what
        :func:`~vip.lineage.checkpoint.trace_checkpoint` gives, with one more of its ``checks``.
    """
    named = _named(lineage)
    number = graph.node(index, named.kind, named.key) if named is not None else None
    record: Record = {"picture": dict(lineage), "known": number is not None}
    if named is None or number is None:
        return record
    row = graph.artifact(index, number)
    same = row["digest"] == named.digest
    found = "the one that the picture names" if same else f"has the digest {row['digest']}, the picture names another"
    trace = trace_checkpoint(index, f"checkpoint/{row['key']}")
    return record | trace | {"checks": [{"what": graph.folder(row), "ok": same, "found": found}, *trace["checks"]]}


def _named(lineage: Mapping[str, Any]) -> ArtifactRef | None:
    """The checkpoint; None where it was a folder, or where somebody else wrote into the picture."""
    try:
        named = ArtifactRef.model_validate(lineage.get("checkpoint"))
    except ValidationError:
        return None
    return named if named.kind == "checkpoint" else None
