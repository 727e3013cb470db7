"""Backend: get, list and put-if-absent over any fsspec URL; nothing else is asked of a store."""

import contextlib
import functools
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from schemas.errors import VipError

# fsspec takes 0.15 s to import: only a root that is no local folder pays for it.


class Backend:
    """Immutable objects under a root URL.

    Args:
        url: a local folder, ``memory://name``, or any fsspec URL whose file system offers exclusive creation.
    """

    def __init__(self, url: str) -> None:
        self.url = str(url)
        local = self.url.removeprefix("file://")
        self.is_local = "://" not in local and "::" not in local
        if self.is_local:
            self.root = str(Path(local).expanduser().absolute())
        else:
            self.root = self._opened[1]

    @functools.cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        try:
            fs, root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise VipError(f"root {self.url}: {error}", "give a folder or a URL that fsspec knows") from error
        return fs, root.rstrip("/")

    @property
    def fs(self) -> Any:
        """The fsspec file system behind the URL."""
        return self._opened[0]

    def full(self, path: str) -> str:
        """The path of an object as the file system knows it."""
        return f"{self.root}/{path}"

    def get(self, path: str) -> bytes:
        """The bytes of one object.

        Raises:
            FileNotFoundError: where there is none.
        """
        if self.is_local:
            return Path(self.full(path)).read_bytes()
        return self.fs.cat_file(self.full(path))

    def open(self, path: str) -> IO[bytes]:
        """One object as a stream of bytes."""
        return Path(self.full(path)).open("rb") if self.is_local else self.fs.open(self.full(path), "rb")

    def exists(self, path: str) -> bool:
        """Whether the object is there."""
        return Path(self.full(path)).exists() if self.is_local else self.fs.exists(self.full(path))

    def size(self, path: str) -> int:
        """Size in bytes."""
        return Path(self.full(path)).stat().st_size if self.is_local else int(self.fs.size(self.full(path)))

    def modified(self, path: str) -> float | None:
        """When the object was written, in seconds since 1970; None where the file system does not say."""
        if self.is_local:
            return Path(self.full(path)).stat().st_mtime
        try:
            return float(self.fs.modified(self.full(path)).timestamp())
        except NotImplementedError:
            return None

    def list(self, prefix: str, unfinished: bool = False) -> Iterator[str]:
        """Every object under ``prefix``, sorted, relative to the root; unfinished writes only where asked for."""
        start = len(self.root) + 1
        if self.is_local:
            found = [f"{folder}/{name}" for folder, _, names in os.walk(self.full(prefix)) for name in names]
        else:
            try:
                found = self.fs.find(self.full(prefix))
            except FileNotFoundError:
                return
        for path in sorted(found):
            if unfinished or "/.tmp-" not in path:
                yield path[start:]

    def put_if_absent(self, path: str, data: bytes | Path) -> bool:
        """Write one object, whole or not at all.

        Returns:
            False where an object already stood there; it is left as it is.
        """
        target = self.full(path)
        if self.is_local:
            return _link_into_place(Path(target), data)
        return self._exclusive(target, data)

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
            else:
                with data.open("rb") as source, self.fs.open(target, "xb") as sink:
                    shutil.copyfileobj(source, sink, 8 << 20)
        except FileExistsError:
            return False
        return True

    def remove(self, path: str) -> None:
        """Take an object away; only gc and takedown do, and they leave a tombstone first."""
        with contextlib.suppress(FileNotFoundError):
            if self.is_local:
                Path(self.full(path)).unlink()
            else:
                self.fs.rm_file(self.full(path))

    def local_path(self, path: str) -> Path | None:
        """The object as a local file where the store is a local folder, else None."""
        return Path(self.full(path)) if self.is_local else None

    def as_dict(self) -> dict[str, Any]:
        """How to open this backend again in another process."""
        return {"url": self.url}


def _link_into_place(target: Path, data: bytes | Path) -> bool:
    """Local put-if-absent: a hard link either appears whole or fails because the name is taken."""
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
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
