"""Rejects: what the datasets that stand left out of their sources, and why."""

from vip.lineage import graph
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex

_TABLE = "rejects.parquet"


def rejects_of(index: LineageIndex, sha256: str = "", name: str = "") -> list[Record]:
    """The rows of a file: ``dataset`` (key), ``name``, ``sha256``, ``reason`` and ``detail``.

    Args:
        index: the index of the root.
        sha256: of its bytes, or the beginning of it.
        name: that it had in the source.
    """
    from schemas.tables import SOURCE_REJECTS
    from storage.tables import read_table

    found = []
    for dataset in index.db.execute("SELECT * FROM artifact WHERE kind = 'dataset' AND state = 'live'").fetchall():
        if _TABLE in graph.loads(dataset["outputs"]):
            data = index.backend.get(f"{graph.folder(dataset)}/{_TABLE}")
            for row in read_table(data, SOURCE_REJECTS, ["name", "sha256", "reason", "detail"]).to_pylist():
                if (name and row["name"] == name) or (sha256 and (row["sha256"] or "").startswith(sha256)):
                    found.append({"dataset": dataset["key"], **row})
    return found
