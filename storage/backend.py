"""Backend: get, list and put-if-absent over any fsspec URL; nothing else is asked of a store."""

import contextlib
import functools
import os
import shutil
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from schemas.canonical import canonical_json
from schemas.errors import VipError
from storage.remote import STREAM_BLOCK, error_code, is_s3, open_remote, refuse_credentials, told_in_one_line

MARKER = "store.json"
_EXCLUSIVE: set[str] = set()  # roots that have shown that they keep put-if-absent

# fsspec takes 0.15 s to import: only a root that is no local folder pays for it.


class Backend:
    """Immutable objects under a root URL.

    Args:
        url: a local folder, ``s3://bucket/prefix``, ``memory://name``, or any fsspec URL whose file system offers
            exclusive creation.

    Raises:
        VipError: for a URL with credentials in it.
    """

    def __init__(self, url: str) -> None:
        self.url = str(url) if str(url).endswith("://") else str(url).rstrip("/") or "/"
        refuse_credentials(self.url)
        local = self.url.removeprefix("file://")
        self.is_local = "://" not in local and "::" not in local
        if self.is_local:
            self.root = str(Path(local).expanduser().absolute())
        else:
            self.root = self._opened[1]

    @functools.cached_property
    def _opened(self) -> tuple[Any, str]:
        fs, root = open_remote(self.url)
        return fs, root.rstrip("/")

    @property
    def fs(self) -> Any:
        """The fsspec file system behind the URL."""
        return self._opened[0]

    def full(self, path: str) -> str:
        """The path of an object as the file system knows it."""
        return f"{self.root}/{path}"

    def place(self, path: str) -> str:
        """Where an object lies for whoever reads it without this class: a local path or a URL."""
        return self.full(path) if self.is_local else self.fs.unstrip_protocol(self.full(path))

    def get(self, path: str) -> bytes:
        """The bytes of one object.

        Raises:
            FileNotFoundError: where there is none.
        """
        if self.is_local:
            return Path(self.full(path)).read_bytes()
        # One request: s3fs would first ask for the size, to fetch pieces side by side.
        more = {"max_concurrency": 1} if is_s3(self.url) else {}
        with told_in_one_line(self.url):
            return self.fs.cat_file(self.full(path), **more)

    def open(self, path: str) -> IO[bytes]:
        """One object as a stream of bytes."""
        if self.is_local:
            return Path(self.full(path)).open("rb")
        with told_in_one_line(self.url):
            return self.fs.open(self.full(path), "rb", block_size=STREAM_BLOCK)

    def exists(self, path: str) -> bool:
        """Whether the object is there."""
        if self.is_local:
            return Path(self.full(path)).exists()
        with told_in_one_line(self.url):
            return self.fs.exists(self.full(path))

    def size(self, path: str) -> int:
        """Size in bytes."""
        if self.is_local:
            return Path(self.full(path)).stat().st_size
        with told_in_one_line(self.url):
            return int(self.fs.size(self.full(path)))

    def modified(self, path: str) -> float | None:
        """When the object was written, in seconds since 1970; None where the file system does not say."""
        if self.is_local:
            return Path(self.full(path)).stat().st_mtime
        try:
            with told_in_one_line(self.url):
                return float(self.fs.modified(self.full(path)).timestamp())
        except FileNotFoundError:
            raise
        except VipError as error:
            if isinstance(error.__cause__, NotImplementedError):
                return None
            raise

    def list(self, prefix: str, unfinished: bool = False) -> Iterator[str]:
        """Every object under ``prefix``, sorted, relative to the root; unfinished writes only where asked for."""
        start = len(self.root) + 1
        if self.is_local:
            found = [f"{folder}/{name}" for folder, _, names in os.walk(self.full(prefix)) for name in names]
        else:
            try:
                with told_in_one_line(self.url):
                    found = self.fs.find(self.full(prefix))
            except FileNotFoundError:
                return
        for path in sorted(found):
            # Below the root: what lies above it may be called as it likes.
            if unfinished or "/.tmp-" not in path[start - 1 :]:
                yield path[start:]

    def list_dated(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Every object under ``prefix``, and when it was written as :meth:`modified` says; 0 where it does not."""
        if self.is_local:
            for path in self.list(prefix):
                with contextlib.suppress(FileNotFoundError):
                    yield path, os.stat(self.full(path)).st_mtime  # noqa: PTH116 - there may be very many
            return
        try:
            with told_in_one_line(self.url):
                found = self.fs.find(self.full(prefix), detail=True)
        except FileNotFoundError:
            return
        for path, facts in sorted(found.items()):
            written: Any = next((facts[name] for name in ("LastModified", "created", "mtime") if name in facts), 0.0)
            yield path[len(self.root) + 1 :], written.timestamp() if isinstance(written, datetime) else float(written)

    def list_starting(self, start: str) -> Iterator[str]:
        """Every object whose path begins with ``start``, such as ``folder/na`` or ``folder/name/``; sorted.

        Where the store lists by prefix, it lists no more than these.
        """
        base, _, name = self.full(start).removesuffix("/").rpartition("/")
        name += "/" if start.endswith("/") else ""
        if not self.is_local and is_s3(self.url):
            with told_in_one_line(self.url):
                # A folder is asked for as a prefix, too: for one that is not there find() would ask twice more.
                found = self.fs.find(base, prefix=name)
            yield from (path[len(self.root) + 1 :] for path in sorted(found))
        elif name.endswith("/"):
            yield from self.list(start[:-1])
        elif self.is_local:
            found, inside = [], base[len(self.root) + 1 :]
            with contextlib.suppress(FileNotFoundError), os.scandir(base) as entries:
                for entry in entries:
                    if entry.name.startswith(name):
                        path = f"{inside}/{entry.name}"
                        found += self.list(path) if entry.is_dir() else [path]
            yield from sorted(found)
        else:
            yield from (path for path in self.list(base[len(self.root) + 1 :]) if path.startswith(start))

    def put_if_absent(self, path: str, data: bytes | Path) -> bool:
        """Write one object, whole or not at all.

        Returns:
            False where an object already stood there; it is left as it is.

        Raises:
            VipError: where a remote store does not keep put-if-absent, which is tried once before the first write.
        """
        target = self.full(path)
        if self.is_local:
            return _link_into_place(Path(target), data)
        with told_in_one_line(self.url):
            self._require_exclusive()
            return self._exclusive(target, data)

    def _require_exclusive(self) -> None:
        """Write the marker of the root twice: a server that knows no condition would take the second one, too."""
        if self.url in _EXCLUSIVE:
            return
        marker, data = self.full(MARKER), canonical_json({"format": 1})
        if self._exclusive(marker, data) and self._exclusive(marker, data):
            raise VipError(f"{self.url} does not keep put-if-absent", "give a store that honours If-None-Match")
        _EXCLUSIVE.add(self.url)

    def _exclusive(self, target: str, data: bytes | Path) -> bool:
        if self.fs.protocol == "memory":
            # Its pipe_file ignores the mode, and it lives in one process: check, then write.
            if self.fs.exists(target):
                return False
            self.fs.pipe_file(target, data.read_bytes() if isinstance(data, Path) else data)
            return True
        try:
            if isinstance(data, bytes):
                self.fs.pipe_file(target, data, mode="create")
            elif is_s3(self.url):
                self.fs.put_file(str(data), target, mode="create")
            else:
                with data.open("rb") as source, self.fs.open(target, "xb") as sink:
                    shutil.copyfileobj(source, sink, 8 << 20)
        except FileExistsError:
            return False
        except OSError as error:
            # Some servers leave out which condition failed, and s3fs then takes it for a wrong argument.
            if error_code(error) in ("PreconditionFailed", "412"):
                return False
            raise
        return True

    def remove(self, path: str) -> None:
        """Take an object away; only gc and takedown do, and they leave a tombstone first."""
        with contextlib.suppress(FileNotFoundError):
            if self.is_local:
                Path(self.full(path)).unlink()
            else:
                with told_in_one_line(self.url):
                    self.fs.rm_file(self.full(path))

    def local_path(self, path: str) -> Path | None:
        """The object as a local file where the store is a local folder, else None."""
        return Path(self.full(path)) if self.is_local else None


def _link_into_place(target: Path, data: bytes | Path) -> bool:
    """Local put-if-absent: a hard link either appears whole or fails because the name is taken."""
    if target.exists():
        return False
    for last in (False, False, True):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return _write_and_link(target, data)
        except FileNotFoundError:
            # gc takes away a folder that it has just emptied; the next mkdir makes it again.
            if last:
                raise
    raise AssertionError("unreachable")


def _write_and_link(target: Path, data: bytes | Path) -> bool:
    scratch = target.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        with scratch.open("wb") as sink:
            if isinstance(data, bytes):
                sink.write(data)
            else:
                with data.open("rb") as source:
                    shutil.copyfileobj(source, sink, 8 << 20)
            sink.flush()
            os.fsync(sink.fileno())
        try:
            os.link(scratch, target)
        except FileExistsError:
            return False
        return True
    finally:
        scratch.unlink(missing_ok=True)
