"""What an artifact puts into the index."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Manifest, Publication, Tombstone
from storage.backend import Backend
from storage.layout import artifact_folder

_MAIN = (
    "captions.parquet",
    "samples.parquet",
    "samples.tar",
    "metrics.parquet",
    "names.parquet",
    "latents.parquet",
    "embeddings.parquet",
)
"""Files whose rows count as those of their artifact, the first that is there."""

ID_BYTES = 16  # of a SHA-256; enough to tell any two rows apart


def packed(hex_id: str) -> bytes:
    """The first 16 bytes of an id written in hex digits."""
    return bytes.fromhex(hex_id[: 2 * ID_BYTES])


class Ingest:
    """Writes artifacts into an open index; the caller holds the transaction."""

    def __init__(self, backend: Backend, db: sqlite3.Connection) -> None:
        self.backend = backend
        self.db = db
        self._nodes: dict[tuple[str, str], int] = {
            (kind, key): number for number, kind, key in db.execute("SELECT id, kind, key FROM artifact")
        }

    def take(self, kind: str, key: str, removed: bool) -> None:
        """Read one published artifact; where it cannot be read, the index says so instead of failing."""
        node = self._node(kind, key)
        self._forget_rows(node)
        try:
            manifest, sha256 = self._manifest(kind, key)
        except (VipError, ValueError, OSError) as error:
            self._mark(node, "broken", _line(error))
            return
        self._write(node, manifest, sha256)
        if removed:
            self._mark(node, "removed", self._reason(kind, key))
            return
        try:
            self._rows(node, manifest)
        except (VipError, ValueError, OSError, sqlite3.IntegrityError) as error:  # the last: a figure that is no number
            self._forget_rows(node, edges=False)
            self._mark(node, "broken", _line(error))

    def take_collected(self, path: str) -> None:
        """Read the record of an artifact that gc took."""
        _, kind, key, _ = path.split("/")
        node = self._node(kind, key)
        self._forget_rows(node)
        try:
            stone = Tombstone.model_validate_json(self.backend.get(path))
        except ValueError as error:
            self._mark(node, "broken", f"{path} cannot be read: {_line(error)}")
            return
        if stone.manifest is not None:
            self._write(node, stone.manifest, "")
        self._mark(node, "removed", stone.reason)

    def drop(self, kind: str, key: str) -> None:
        """Take out an artifact whose publication is gone; what names it still names it."""
        node = self._node(kind, key)
        self._forget_rows(node)
        self._mark(node, "missing", "its publication is gone")

    def _node(self, kind: str, key: str) -> int:
        if (kind, key) not in self._nodes:
            cursor = self.db.execute(
                "INSERT INTO artifact (kind, key, state) VALUES (?, ?, 'missing') RETURNING id", (kind, key)
            )
            self._nodes[kind, key] = cursor.fetchone()[0]
        return self._nodes[kind, key]

    def _mark(self, node: int, state: str, problem: str | None) -> None:
        self.db.execute("UPDATE artifact SET state = ?, problem = ? WHERE id = ?", (state, problem, node))

    def _forget_rows(self, node: int, edges: bool = True) -> None:
        known = self.db.execute("SELECT digest FROM artifact WHERE id = ?", (node,)).fetchone()[0]
        if known is None:
            return  # never written: without their B-trees these deletions would read whole tables
        for table in ("caption", "sample", "metric"):
            self.db.execute(f"DELETE FROM {table} WHERE artifact = ?", (node,))  # noqa: S608 - names from this line
        if edges:
            self.db.execute("DELETE FROM edge WHERE child = ?", (node,))

    def _manifest(self, kind: str, key: str) -> tuple[Manifest, str]:
        path = f"published/{kind}/{key}.json"
        publication = Publication.model_validate_json(self.backend.get(path))
        place = f"{artifact_folder(kind, key, publication.digest)}/manifest.json"
        try:
            data = self.backend.get(place)
        except FileNotFoundError:
            raise VipError(f"{place} is missing although it was published") from None
        if sha256_hex(data) != publication.manifest_sha256:
            raise VipError(f"{place} is not what was published")
        return Manifest.model_validate_json(data), publication.manifest_sha256

    def _reason(self, kind: str, key: str) -> str:
        """Why it was removed; that it was is told by the tombstone's place, whatever stands in it."""
        path = f"tombstones/{kind}/{key}.json"
        try:
            return Tombstone.model_validate_json(self.backend.get(path)).reason
        except ValueError:
            return f"{path} cannot be read"

    def _write(self, node: int, manifest: Manifest, sha256: str) -> None:
        made, run = manifest.producer, manifest.run
        spec_id = manifest.params.get("spec_id") or manifest.stats.get("spec_id")
        if isinstance(manifest.params.get("spec"), dict):
            spec_id = self._spec(manifest) or spec_id
        self.db.execute(
            """UPDATE artifact SET digest = ?, state = 'live', problem = NULL, stage = ?, stage_version = ?, code = ?,
            dirty = ?, run = ?, started = ?, finished = ?, rows = ?, bytes = ?, spec_id = ?, params = ?, outputs = ?,
            packages = ?, stats = ?, manifest_sha256 = ? WHERE id = ?""",
            (
                manifest.digest,
                made.stage,
                made.stage_version,
                made.commit,
                made.dirty,
                run.id,
                run.started.isoformat(),
                run.finished.isoformat(),
                _main_rows(manifest),
                sum(output.bytes for output in manifest.outputs.values()),
                spec_id,
                json.dumps(manifest.params),
                json.dumps({name: output.model_dump() for name, output in manifest.outputs.items()}),
                json.dumps(made.packages),
                json.dumps(manifest.stats),
                sha256,
                node,
            ),
        )
        self.db.executemany(
            "INSERT INTO edge (child, role, parent, digest) VALUES (?, ?, ?, ?)",
            [(node, role, self._parent(ref), ref.digest) for role, ref in manifest.inputs.items()],
        )

    def _parent(self, ref: ArtifactRef) -> int:
        return self._node(ref.kind, ref.key)

    def _spec(self, manifest: Manifest) -> str | None:
        """Take in the spec of some captions; its name is no part of it and stands in the stats."""
        from schemas.spec import CaptionSpec

        dump = manifest.params["spec"]
        try:
            spec = CaptionSpec.model_validate({"name": "unnamed", **dump})
        except ValueError:
            return None  # written by a version with other fields; its rows still name it
        name = manifest.stats.get("spec") or dump.get("name")
        self.db.execute(
            "INSERT OR IGNORE INTO spec VALUES (?, ?, ?, ?, ?, ?)",
            (spec.spec_id, spec.answers_id, name, spec.model.id, spec.model.revision, json.dumps(dump)),
        )
        return spec.spec_id

    def _rows(self, node: int, manifest: Manifest) -> None:
        if manifest.kind == "shard":
            self._samples(node, manifest)
        elif manifest.kind == "captions":
            self._captions(node, manifest, "captions.parquet", rejected=0)
            self._captions(node, manifest, "rejects.parquet", rejected=1)
        elif manifest.kind == "evaluation":
            self._metrics(node, manifest)

    def _table(self, manifest: Manifest, name: str, columns: list[str]) -> list[list[Any]]:
        from schemas import tables
        from storage.tables import read_table

        schema = {
            "samples.parquet": tables.SAMPLES,
            "captions.parquet": tables.CAPTIONS,
            "rejects.parquet": tables.CAPTION_REJECTS,
            "metrics.parquet": tables.METRICS,
        }[name]
        path = f"{artifact_folder(manifest.kind, manifest.key, manifest.digest)}/{name}"
        local = self.backend.local_path(path)
        try:
            table = read_table(local or self.backend.get(path), schema, columns)
        except FileNotFoundError:
            raise VipError(f"{path} is missing") from None
        except VipError as error:
            raise VipError(f"{Path(path).parent}: {error.reason}") from error
        return [column.to_pylist() for column in table.columns]

    def _samples(self, node: int, manifest: Manifest) -> None:
        if "samples.parquet" not in manifest.outputs:
            return
        images, splits = self._table(manifest, "samples.parquet", ["image_sha256", "split"])
        self.db.executemany(
            "INSERT INTO sample VALUES (?, ?, ?, ?)",
            [(packed(image), node, row, split) for row, (image, split) in enumerate(zip(images, splits, strict=True))],
        )

    def _captions(self, node: int, manifest: Manifest, name: str, rejected: int) -> None:
        if name not in manifest.outputs:
            return
        ids, images = self._table(manifest, name, ["caption_id", "image_sha256"])
        self.db.executemany(
            "INSERT INTO caption VALUES (?, ?, ?, ?, ?)",
            [
                (packed(caption), packed(image), node, row, rejected)
                for row, (caption, image) in enumerate(zip(ids, images, strict=True))
            ],
        )

    def _metrics(self, node: int, manifest: Manifest) -> None:
        if "metrics.parquet" not in manifest.outputs:
            return
        columns = ["metric_id", "metric", "value", "low", "high", "n", "setting", "checkpoint", "caption_set"]
        values = self._table(manifest, "metrics.parquet", [*columns, "view", "region", "network", "unit"])
        self.db.executemany(
            f"INSERT INTO metric VALUES (?, {node}, {', '.join('?' * 12)})",  # noqa: S608 - an integer of ours
            list(zip(*values, strict=True)),
        )


def _main_rows(manifest: Manifest) -> int | None:
    for name in _MAIN:
        output = manifest.outputs.get(name)
        if output is not None and output.rows is not None:
            return output.rows
    return None


def _line(error: Exception) -> str:
    return error.reason if isinstance(error, VipError) else " ".join(str(error).split())[:300]
