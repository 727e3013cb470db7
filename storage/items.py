"""Item: one file, tar member or Parquet row of a source, and where its bytes can be fetched again."""

import io
import os
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, Self, cast

from schemas.sharding import RejectReason
from storage.remote import STREAM_BLOCK, is_s3, is_url, open_remote, told_in_one_line

CONTAINERS = (".tar", ".parquet", ".pq")


def open_binary(path: str) -> IO[bytes]:
    """A local file or a URL as a stream of bytes that can seek.

    Raises:
        OSError: where it cannot be read; VipError, also while it is read, where a store does not answer.
    """
    if is_url(path):
        files, inside = open_remote(path)
        with told_in_one_line(path):
            return cast(IO[bytes], _Told(files.open(inside, "rb", block_size=STREAM_BLOCK), path))
    return Path(path).open("rb")


class _Told:
    """A remote stream whose failures are told in one line."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def read(self, *size: int) -> bytes:
        with told_in_one_line(self._url):
            return self._file.read(*size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A whole file, local or behind a URL."""

    path: str

    def measure(self) -> int:
        """Size in bytes."""
        if is_url(self.path):
            files, path = open_remote(self.path)
            with told_in_one_line(self.path):
                return int(files.size(path))
        return os.stat(self.path).st_size  # noqa: PTH116

    def read(self) -> bytes:
        """The bytes of the file."""
        if is_url(self.path):
            files, path = open_remote(self.path)
            # One request: s3fs would first ask for the size, to fetch pieces side by side.
            more = {"max_concurrency": 1} if is_s3(self.path) else {}
            with told_in_one_line(self.path):
                return files.cat_file(path, **more)
        # A bare descriptor: half the cost of open() for a million small files. Never waits on a pipe.
        handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_BINARY", 0))
        with io.FileIO(handle) as file:
            return file.readall()


@dataclass(frozen=True, slots=True)
class RangePlace:
    """A range of bytes in a file, such as a member of a tar."""

    path: str
    offset: int
    size: int

    def measure(self) -> int:
        """Size in bytes, as announced."""
        return self.size

    def read(self) -> bytes:
        """The bytes of the range; fewer where the file ends early."""
        if is_url(self.path):
            files, path = open_remote(self.path)
            with told_in_one_line(self.path):
                return files.cat_file(path, start=self.offset, end=self.offset + self.size)
        with io.FileIO(self.path) as file:
            file.seek(self.offset)
            return file.read(self.size) or b""


class Column(NamedTuple):
    """A column of a Parquet file, or a field of a column of structs; the name of either may hold dots."""

    top: str
    inner: str = ""

    def __str__(self) -> str:
        return f"{self.top}.{self.inner}" if self.inner else self.top

    def of(self, batch: Any) -> Any:
        """Its values in a record batch that was read with it."""
        import pyarrow.compute as pc

        values = batch.column(self.top)
        return pc.struct_field(values, self.inner) if self.inner else values


@dataclass(frozen=True, slots=True)
class RowPlace:
    """A row of a Parquet file: column, row group, and row within the group."""

    path: str
    column: Column
    group: int
    row: int

    def measure(self) -> int:
        """Size in bytes; the row has to be read for it."""
        return len(self.read())

    def read(self) -> bytes:
        """The bytes of the row. Its row group is read up to it: for many rows use :func:`read_rows`."""
        return next((data for _, data in read_rows(self.path, self.column, self.group, (self.row,))), b"")


Place = FilePlace | RangePlace | RowPlace


def read_rows(path: str, column: Column, group: int, rows: Container[int]) -> Iterator[tuple[int, bytes]]:
    """The wanted rows of one row group of a Parquet file, in order, a small batch in memory at a time.

    Raises:
        OSError: where they cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_binary(path) as file:
            row = 0
            for batch in pq.ParquetFile(file).iter_batches(batch_size=64, row_groups=[group], columns=[str(column)]):
                for value in column.of(batch):
                    if row in rows:
                        yield row, value.as_py() or b""
                    row += 1
    except (pa.ArrowException, KeyError) as error:  # KeyError: another table lies there by now
        raise OSError(f"row group {group} of {path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Item:
    """Something that may be an image.

    Attributes:
        name: relative to the source, printable; members are named ``<tar>/<member>``, rows ``<file>/<name or number>``.
        place: where the bytes can be fetched, now and later.
        size: in bytes; None where the walk did not ask: the thread that reads the file does.
        split: ``train`` or ``test`` where the source states it.
        data: the bytes, where the walk had them in hand.
        container: name of the tar it lies in, else empty.
    """

    name: str
    place: Place
    size: int | None
    split: str | None = None
    data: bytes | None = field(default=None, repr=False)
    container: str = ""

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: where they cannot be fetched.
            VipError: where a store does not answer.
        """
        return self.place.read() if self.data is None else self.data


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that could not be read, and why; the walk went on."""

    name: str
    reason: RejectReason
    detail: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Hidden:
    """A file or folder whose name begins with a dot: left out, counted."""

    name: str


def readable_name(name: str) -> str:
    r"""A name that any UTF-8 column can hold: bytes that are no UTF-8 become ``\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isascii() else name


def is_hidden(name: str) -> bool:
    """Whether any part of the name begins with a dot (``.`` and ``..`` themselves are no such part)."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def is_container(name: str) -> bool:
    """Whether a file of that name is opened as a tar or as Parquet."""
    return name.lower().endswith(CONTAINERS)


def stated_split(name: str, splits: Mapping[str, str]) -> str | None:
    """The split that a name states: a folder called so, or a container whose name begins with that word.

    Where parts disagree, test wins: what was ever held out stays held out.
    """
    if not splits:
        return None
    parts = PurePosixPath(name.lower()).parts
    words = list(parts[:-1])
    words += [re.split(r"[-_.]", part, maxsplit=1)[0] for part in parts if part.endswith(CONTAINERS)]
    stated = {splits[word] for word in words if word in splits}
    return ("test" if "test" in stated else "train") if stated else None
