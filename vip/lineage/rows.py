"""The rows and the bytes that the index points at, re-hashed when they are read."""

import hashlib
import sqlite3
import tarfile
from typing import Any

from schemas.errors import VipError
from vip.lineage import graph
from vip.lineage.graph import Record
from vip.lineage.index import LineageIndex

_TABLES = {
    ("captions", "captions.parquet"): "CAPTIONS",
    ("captions", "rejects.parquet"): "CAPTION_REJECTS",
    ("shard", "samples.parquet"): "SAMPLES",
    ("evaluation", "metrics.parquet"): "METRICS",
    ("gate", "checks.parquet"): "GATE_CHECKS",
    ("promotion", "comparison.parquet"): "COMPARISON",
}


def read_rows(index: LineageIndex, owner: sqlite3.Row, name: str) -> list[dict[str, Any]]:
    """Every row of one table of an artifact.

    Raises:
        VipError: where it cannot be read.
    """
    return _table(index, owner, name).to_pylist()


def read_row(index: LineageIndex, owner: sqlite3.Row, name: str, row: int) -> dict[str, Any]:
    """One row of one table of an artifact."""
    return _table(index, owner, name).slice(row, 1).to_pylist()[0]


def _table(index: LineageIndex, owner: sqlite3.Row, name: str) -> Any:
    from schemas import tables
    from storage.tables import read_table

    path = f"{graph.folder(owner)}/{name}"
    local = index.backend.local_path(path)
    try:
        return read_table(local or index.backend.get(path), getattr(tables, _TABLES[owner["kind"], name]))
    except FileNotFoundError:
        raise VipError(f"{path} is missing", "run `vip audit verify`") from None


def check_file(index: LineageIndex, owner: sqlite3.Row, name: str) -> Record:
    """Re-hash one file of an artifact against its manifest, as a line of a list of checks."""
    path = f"{graph.folder(owner)}/{name}"
    outputs = graph.loads(owner["outputs"])
    if name not in outputs:
        return {"what": path, "ok": False, "found": "not in the manifest"}
    try:
        with index.backend.open(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except FileNotFoundError:
        return {"what": path, "ok": False, "found": "missing"}
    good = found == outputs[name]["sha256"]
    return {"what": path, "ok": good, "found": "as published" if good else "changed since it was published"}


def check_manifest(index: LineageIndex, owner: sqlite3.Row) -> Record:
    """Re-hash a manifest against what its publication said."""
    path = f"{graph.folder(owner)}/manifest.json"
    try:
        good = hashlib.sha256(index.backend.get(path)).hexdigest() == owner["manifest_sha256"]
    except FileNotFoundError:
        return {"what": path, "ok": False, "found": "missing"}
    return {"what": path, "ok": good, "found": "as published" if good else "changed since it was published"}


def image_bytes(index: LineageIndex, shard: sqlite3.Row, sample: dict[str, Any]) -> bytes:
    """The original bytes of one sample, read from its shard.

    Raises:
        VipError: where the shard is gone or does not hold the member.
    """
    path = f"{graph.folder(shard)}/samples.tar"
    try:
        with index.backend.open(path) as file:
            if sample.get("offset") is not None:
                file.seek(sample["offset"])
                return file.read(sample["bytes"])
            with tarfile.open(fileobj=file, mode="r:") as tar:
                member = tar.extractfile(sample["member"])
                if member is None:
                    raise VipError(f"{path} holds no file {sample['member']}", "run `vip audit verify`")
                return member.read()
    except FileNotFoundError:
        raise VipError(f"{path} is missing", "run `vip audit verify`") from None
    except (KeyError, tarfile.TarError, OSError) as error:
        raise VipError(f"{path}: {error}", "run `vip audit verify`") from error


def check_image(index: LineageIndex, shard: sqlite3.Row, sample: dict[str, Any]) -> Record:
    """Re-hash the bytes of one image, as a line of a list of checks."""
    what = f"{graph.folder(shard)}/samples.tar: {sample['member']}"
    try:
        data = image_bytes(index, shard, sample)
    except VipError as error:
        return {"what": what, "ok": False, "found": error.reason}
    good = hashlib.sha256(data).hexdigest() == sample["image_sha256"]
    return {"what": what, "ok": good, "found": "hashes to its key" if good else "does not hash to its key"}
