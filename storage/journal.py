"""Journal: answers as they arrive, on local disk, until they are published as a segment.

A journal file is JSON lines: first what partition and how many key bits, then one answer a line. A thread hands lines
to the kernel fifty times a second, so that they outlive a killed process, and to the disk once a second. Another one
publishes: it takes the file away first, and the lines that come meanwhile go to the next one, however long the store
lets it wait. A file is locked while its process lives; what a dead process left is published by the next one. A torn
last line was never an answer.
"""

import fcntl
import json
import os
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson
import pyarrow as pa

from schemas.tables import ANSWERS
from storage.answers import MOST_BITS, Answers, key_bits
from storage.backend import Backend
from storage.lock import left_behind

_WRITE_EVERY = 0.02
_NO_RECORD = (ValueError, TypeError, KeyError, RecursionError, OverflowError, pa.ArrowException)


class _Open(NamedTuple):
    """A journal file, unbuffered, and the answers in it."""

    file: FileIO
    path: Path
    rows: list[dict[str, Any]]


class Journal:
    """Takes answers, keeps them safe, and publishes them as segments every few seconds.

    Args:
        answers: the partition to publish to.
        bits: number of key bits of the dataset's shards.
        scratch: local folder that journals lie in.
        publish_every: seconds between segments.
        sync_every: seconds between fsyncs.
    """

    def __init__(
        self, answers: Answers, bits: int, scratch: Path, publish_every: float = 5.0, sync_every: float = 1.0
    ) -> None:
        self.answers, self.bits, self.scratch = answers, bits, scratch
        self.publish_every, self.sync_every = publish_every, sync_every
        self.published_segments = 0
        # append() only ever adds at the end, and what is written is taken from the front: it needs no lock.
        self._rows: list[dict[str, Any]] = []
        self._open: _Open | None = None
        self._lock = threading.Lock()  # of the open file
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"answers-{work.__name__.strip('_')}", daemon=True)
            for work in (self._keep_writing, self._keep_publishing)
        ]
        for thread in self._threads:
            thread.start()

    def append(self, row: dict[str, Any]) -> None:
        """Take one answer (schema ANSWERS); a moment later a killed process does not lose it.

        Raises:
            OSError, VipError: where writing or publishing failed before.
        """
        if self._failure:
            raise self._failure
        self._rows.append(row)

    def close(self) -> None:
        """Write what is left, publish it, and let go of the files.

        Raises:
            OSError, VipError: where writing or publishing failed, now or before; what was written is recovered later.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join()
        try:
            self._write()
            if self._failure:
                raise self._failure
            self._publish()
        finally:
            if self._open is not None:
                self._open.file.close()

    def _keep_writing(self) -> None:
        next_sync = time.monotonic() + self.sync_every
        while not self._stop.wait(_WRITE_EVERY):
            try:
                self._write()
                if time.monotonic() >= next_sync:
                    self._sync()
                    next_sync = time.monotonic() + self.sync_every
            except Exception as error:  # noqa: BLE001 - handed to the next append or close, never lost
                self._failure = self._failure or error
                return

    def _keep_publishing(self) -> None:
        while not self._stop.wait(self.publish_every):
            try:
                self._publish()
            except Exception as error:  # noqa: BLE001 - as above
                self._failure = self._failure or error
                return

    def _write(self) -> None:
        """Hand to the kernel what has come since."""
        with self._lock:
            count = len(self._rows)
            if not count:
                return
            if self._open is None:
                self._open = _create(self.scratch, self.answers.answers_id, self.bits)
            rows = self._rows[:count]
            _write_whole(self._open.file, b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
            self._open.rows.extend(rows)
            del self._rows[:count]

    def _sync(self) -> None:
        with self._lock:
            if self._open is not None:
                os.fsync(self._open.file.fileno())

    def _publish(self) -> None:
        self._write()
        with self._lock:
            opened, self._open = self._open, None
        if opened is None:
            return
        with opened.file:  # closed also by a failure: it is unlocked then, and may be recovered
            os.fsync(opened.file.fileno())
            self.published_segments += _publish_rows(self.answers, self.bits, opened.rows, self.scratch)
            # The rows are in the store: only now may the journal go.
            opened.path.unlink()


@contextmanager
def journalling(
    answers: Answers, bits: int, scratch: Path, publish_every: float = 5.0, sync_every: float = 1.0
) -> Iterator[Journal]:
    """A journal that publishes what it holds when the block ends, also by an error."""
    journal = Journal(answers, bits, scratch, publish_every, sync_every)
    try:
        yield journal
    finally:
        journal.close()


def recover(backend: Backend, scratch: Path, answers_id: str | None = None) -> int:
    """Publish the journals that dead processes left.

    Args:
        backend: the root to publish to.
        scratch: folder of the journals.
        answers_id: only journals of this partition; all where None.

    Returns:
        The number of answers published now.
    """
    count = 0
    for path in sorted(scratch.glob("*.journal")):
        with left_behind(path) as file:
            if file is None:
                continue
            header, rows = _read(file)
            if header is None:
                path.unlink(missing_ok=True)
                continue
            if answers_id is not None and header["answers_id"] != answers_id:
                continue
            count += _publish_unseen(Answers(backend, header["answers_id"]), header["bits"], rows, scratch)
            path.unlink(missing_ok=True)
    return count


def _publish_unseen(answers: Answers, bits: int, rows: list[dict[str, Any]], scratch: Path) -> int:
    """Publish what is not in the store yet: the process may have died between publishing and removing its journal."""
    seen: dict[str, set[str]] = {}
    fresh = []
    for row in rows:
        prefix = key_bits(row["image_sha256"], bits)
        if prefix not in seen:
            seen[prefix] = set(answers.look_up(prefix, columns=()))
        if row["request_id"] not in seen[prefix]:
            seen[prefix].add(row["request_id"])
            fresh.append(row)
    _publish_rows(answers, bits, fresh, scratch)
    return len(fresh)


def _publish_rows(answers: Answers, bits: int, rows: list[dict[str, Any]], scratch: Path) -> int:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[key_bits(row["image_sha256"], bits)].append(row)
    for prefix, members in sorted(groups.items()):
        answers.publish(prefix, members, scratch)
    return len(groups)


def _create(scratch: Path, answers_id: str, bits: int) -> _Open:
    scratch.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    hidden = scratch / f".{name}.new"
    file = hidden.open("xb", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(json.dumps({"answers_id": answers_id, "bits": bits}).encode() + b"\n")
    # It gets its name only once it is locked, so that no other process takes it for one that was left.
    path = scratch / f"{name}.journal"
    hidden.rename(path)
    return _Open(file, path, [])


def _write_whole(file: FileIO, data: bytes) -> None:
    """Write all of it or, where the disk is full, nothing: no line may follow half a line."""
    start, rest = file.tell(), memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(start)
        file.seek(start)
        raise


def _read(file: IO[bytes]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The header and the answers of a journal; None for a header that was never written whole."""
    lines = file.read().split(b"\n")[:-1]  # what follows the last line feed is torn, or nothing
    header = _header(lines[0]) if lines else None
    if header is None:
        return None, []
    rows = []
    for line in lines[1:]:
        row = _answer(line)
        if row is None:
            break  # a lost page after power failure: nothing behind it is trusted
        rows.append(row)
    return header, rows


def _header(line: bytes) -> dict[str, Any] | None:
    try:
        header = json.loads(line)
        named = isinstance(header["answers_id"], str) and "/" not in header["answers_id"]
        return header if named and header["bits"] in range(MOST_BITS + 1) else None
    except _NO_RECORD:
        return None


def _answer(line: bytes) -> dict[str, Any] | None:
    """The answer of a line, None where the line is no answer that a segment could hold."""
    try:
        row = json.loads(line)
        row["answered_at"] = datetime.fromisoformat(row["answered_at"])
        key_bits(row["image_sha256"], 1)
        table = pa.Table.from_pylist([row], schema=ANSWERS)
    except _NO_RECORD:
        return None
    return row if all(field.nullable or not table.column(field.name).null_count for field in ANSWERS) else None
