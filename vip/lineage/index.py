"""The index: a SQLite file derived from the manifests, kept up to date by itself, safe to delete.

SQLite because it answers fastest as a whole process: it needs no import worth naming, and its B-trees take the
look-ups that the questions make (docs/log.md has the figures of the three candidates). Nothing is evidence
here: what the index says is where to look, and the answers read the artifacts themselves.
"""

import contextlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from storage.backend import Backend
from storage.scratch import derived_file

Progress = Callable[[str, int, int], None]

_VERSION = 4

_TABLES = f"""
PRAGMA user_version = {_VERSION};
CREATE TABLE artifact (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, digest TEXT,
    state TEXT NOT NULL,            -- live | removed (a tombstone stands) | broken | missing (only named by others)
    problem TEXT,                   -- why removed, or what is broken
    stage TEXT, stage_version INTEGER, code TEXT, dirty INTEGER, run TEXT, started TEXT, finished TEXT,
    rows INTEGER, bytes INTEGER, spec_id TEXT,
    params TEXT, outputs TEXT, packages TEXT, stats TEXT, manifest_sha256 TEXT,
    UNIQUE (kind, key));
CREATE TABLE seen (     -- what the folders of publications looked like at the last refresh
    token TEXT NOT NULL);
CREATE TABLE edge (child INTEGER NOT NULL, role TEXT NOT NULL, parent INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE TABLE caption (      -- ids are the first 16 bytes, the rows themselves are read from Parquet
    id BLOB NOT NULL, image BLOB NOT NULL, artifact INTEGER NOT NULL, row INTEGER NOT NULL,
    rejected INTEGER NOT NULL);
CREATE TABLE sample (image BLOB NOT NULL, artifact INTEGER NOT NULL, row INTEGER NOT NULL, split TEXT NOT NULL);
CREATE TABLE metric (id TEXT NOT NULL, artifact INTEGER NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL,
    low REAL, high REAL, n INTEGER NOT NULL, setting TEXT NOT NULL, checkpoint TEXT NOT NULL,
    caption_set TEXT NOT NULL, view TEXT NOT NULL, region TEXT NOT NULL, network TEXT, unit TEXT NOT NULL);
CREATE TABLE spec (spec_id TEXT PRIMARY KEY, answers_id TEXT, name TEXT, model TEXT, revision TEXT, spec TEXT);
CREATE INDEX artifact_digest ON artifact (digest);
CREATE INDEX artifact_spec ON artifact (spec_id);
"""

_BULK = {
    "edge_parent": "edge (parent, child)",
    "edge_child": "edge (child, parent)",
    "caption_id": "caption (id)",
    "caption_image": "caption (image)",
    "caption_artifact": "caption (artifact)",
    "sample_image": "sample (image)",
    "sample_artifact": "sample (artifact)",
    "metric_id": "metric (id)",
    "metric_artifact": "metric (artifact)",
}

_PATIENCE_SECONDS = 60.0  # with another process that writes
_SETTLED_NS = 3_000_000_000
_MANY = 200  # new artifacts at once from which dropping and rebuilding the B-trees is the faster way


class LineageIndex:
    """The index of one root, opened and brought up to date.

    Args:
        backend: the root.
        progress: called as (what, done, total) while artifacts are read.
        path: where the file lies; by default ``index/lineage.sqlite`` in a local root, else the user's cache.
    """

    def __init__(self, backend: Backend, progress: Progress | None = None, path: Path | None = None) -> None:
        self.backend = backend
        self.progress = progress
        self.path = path or derived_file(backend, "lineage.sqlite")
        self.db = self._open()

    def _open(self) -> sqlite3.Connection:
        for attempt in (1, 2):
            db = sqlite3.connect(self.path, timeout=_PATIENCE_SECONDS, isolation_level=None)
            try:
                db.execute("PRAGMA synchronous = OFF")
                db.execute("PRAGMA cache_size = -200000")
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    self._create(db)
                elif version != _VERSION:
                    raise sqlite3.DatabaseError(f"made by another version ({version})")
                db.row_factory = sqlite3.Row
                return db
            except sqlite3.DatabaseError as error:
                db.close()
                if "locked" in str(error):
                    raise self._busy() from error
                if attempt == 2:
                    raise VipError(
                        f"the index {self.path} cannot be opened: {error}", "delete it; it is rebuilt by itself"
                    ) from error
                # It is derived: whatever is wrong with the file, a new one is as good.
                self.path.unlink(missing_ok=True)
        raise AssertionError("unreachable")

    def _busy(self) -> VipError:
        return VipError(f"the index {self.path} is being written by another command", "wait for that, then run again")

    def _begin(self) -> None:
        """Begin to write, after others who do.

        Raises:
            VipError: where they take longer than anybody waits.
        """
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise self._busy() from error

    @staticmethod
    def _create(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _TABLES.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            for name, columns in _BULK.items():
                db.execute(f"CREATE INDEX {name} ON {columns}")
        db.execute("COMMIT")

    def refresh(self) -> int:
        """Take in what was published or removed since the last look.

        Returns:
            The number of artifacts read.
        """
        token = self._token()
        if token is not None and self.db.execute("SELECT 1 FROM seen WHERE token = ?", (token,)).fetchone():
            return 0
        count = self._take_in()
        if token is not None:
            self._begin()
            self.db.execute("DELETE FROM seen")
            self.db.execute("INSERT INTO seen VALUES (?)", (token,))
            self.db.execute("COMMIT")
        return count

    def _token(self) -> str | None:
        """Changes whenever a publication, tombstone or record comes or goes; None where that cannot be told.

        Every one of them is a file put into a folder, which changes the folder's time. A folder that changed within
        the last seconds may change again within the grain of its clock, so its time is not trusted yet.
        """
        times: list[tuple[str, int]] = []
        for name, depth in (("published", 1), ("tombstones", 1), ("collected", 2)):
            place = self.backend.local_path(name)
            if place is None:
                return None
            times += _folder_times(str(place), depth)
        if any(time.time_ns() - when < _SETTLED_NS for _, when in times):
            return None
        if self.db.execute("SELECT 1 FROM artifact WHERE state = 'broken'").fetchone():
            return None  # it may have been mended
        return sha256_hex(repr(sorted(times)).encode())

    def _take_in(self) -> int:
        from storage.removal import collected

        published, stones = self._listed("published"), self._listed("tombstones")
        taken = collected(self.backend)
        records = {name: path for name, path in taken.items() if name not in published}
        known = {
            (row["kind"], row["key"]): row["state"] for row in self.db.execute("SELECT kind, key, state FROM artifact")
        }
        todo = [name for name in published if known.get(name) != ("removed" if name in stones else "live")]
        todo += [name for name in records if known.get(name) != "removed"]
        # What gc took may have been built again, between two looks at the root, with another digest.
        again = [name for name in published & taken.keys() if known.get(name) == "live" and name not in stones]
        todo += [name for name in again if self._changed(*name)]
        gone = [name for name, state in known.items() if state != "missing" and name not in published | records.keys()]
        if not todo and not gone:
            return 0
        from vip.lineage.ingest import Ingest

        with self._writing(bulk=len(todo) > _MANY):
            ingest = Ingest(self.backend, self.db)
            for name in gone:
                ingest.drop(*name)
            for done, name in enumerate(todo):
                if self.progress:
                    self.progress("indexing artifacts", done, len(todo))
                if name in records:
                    ingest.take_collected(records[name])
                else:
                    ingest.take(*name, removed=name in stones)
            if self.progress:
                self.progress("indexing artifacts", len(todo), len(todo))
        return len(todo)

    def _changed(self, kind: str, key: str) -> bool:
        """Whether another manifest is published than the one that was taken in."""
        row = self.db.execute("SELECT manifest_sha256 FROM artifact WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        try:
            publication = json.loads(self.backend.get(f"published/{kind}/{key}.json"))
            return row["manifest_sha256"] != publication["manifest_sha256"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return True  # gone, or broken: taking it in says which

    def rebuild(self) -> int:
        """Build the index anew from the manifests; readers keep the old one until the new one is whole.

        Returns:
            The number of artifacts read.
        """
        with tempfile.TemporaryDirectory(prefix="reindex-", dir=self.path.parent) as folder:
            fresh = LineageIndex(self.backend, self.progress, Path(folder) / self.path.name)
            try:
                count = fresh.refresh()
                fresh.db.execute("ANALYZE")
                # Page by page into the file that stands, in one transaction: another file put in its place would meet
                # the journal of whoever has that one open, and take it for its own.
                fresh.db.backup(self.db)
            finally:
                fresh.close()
        return count

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()

    @contextlib.contextmanager
    def _writing(self, bulk: bool) -> Iterator[None]:
        """One transaction; without the B-trees of the large tables while much is written."""
        self._begin()
        try:
            if bulk:
                for name in _BULK:
                    # Ingest looks edges and rows up only to drop old ones, and in bulk there are few of those.
                    self.db.execute(f"DROP INDEX IF EXISTS {name}")
            yield
            if bulk:
                for name, columns in _BULK.items():
                    self.db.execute(f"CREATE INDEX {name} ON {columns}")
            self.db.execute("COMMIT")
        except BaseException:  # Ctrl-C as well: the connection lives on, and would go on inside half a transaction
            self.db.execute("ROLLBACK")
            raise

    def _listed(self, folder: str) -> set[tuple[str, str]]:
        found = set()
        for path in self.backend.list(folder):
            parts = path.removesuffix(".json").split("/")
            if len(parts) == 3:
                found.add((parts[1], parts[2]))
        return found


def _folder_times(place: str, depth: int) -> list[tuple[str, int]]:
    """Path and time of a folder and of the folders in it, ``depth`` levels down."""
    try:
        times = [(place, os.stat(place).st_mtime_ns)]  # noqa: PTH116 - a Path for each would cost more than the call
        if depth:
            with os.scandir(place) as inner:
                for entry in inner:
                    if entry.is_dir():
                        times += _folder_times(entry.path, depth - 1)
        return times
    except FileNotFoundError:
        return []


def open_index(root: str, progress: Progress | None = None) -> LineageIndex:
    """The index of ``root``, up to date.

    Raises:
        VipError: where nothing was ever published there.
    """
    backend = Backend(root)
    if backend.is_local and not Path(backend.root).is_dir():
        raise VipError(f"there is no root at {root}", "give --root, or make one with `vip demo` or `vip shard`")
    index = LineageIndex(backend, progress)
    index.refresh()
    return index
