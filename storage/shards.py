"""Shards: WebDataset tars whose bytes depend on nothing but their samples."""

import contextlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from schemas.canonical import canonical_json
from schemas.errors import VipError
from schemas.manifest import Manifest
from storage.items import RangePlace, open_binary
from storage.store import ArtifactStore

TAR = "samples.tar"
SAMPLES_TABLE = "samples.parquet"
_ZEROS = bytes(tarfile.BLOCKSIZE)


class ShardWriter:
    """Write samples as ``<sha256>.<ext>`` and ``<sha256>.json``, in the order in which they come.

    Every header carries mtime 0, user and group 0, mode 0644, and the archive is plain ustar, so that equal samples
    give equal bytes on any machine and under any version of Python.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=1 << 20)
        self._offset = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, image_sha256: str, extension: str, data: bytes, meta: dict[str, Any]) -> tuple[str, int]:
        """Append one sample.

        Returns:
            Name of the image's member, and the offset of its first byte in the tar.
        """
        member = f"{image_sha256}.{extension}"
        offset = self._add(member, data)
        self._add(f"{image_sha256}.json", canonical_json(meta))
        return member, offset

    def _add(self, name: str, data: bytes) -> int:
        header = _header(name, len(data))
        self._file.write(header)
        self._file.write(data)
        padding = -len(data) % tarfile.BLOCKSIZE
        self._file.write(_ZEROS[:padding])
        start = self._offset + len(header)
        self._offset = start + len(data) + padding
        return start

    def close(self) -> None:
        """Write the end mark, padded to a whole record as tar does."""
        if not self._file.closed:
            end = self._offset + 2 * tarfile.BLOCKSIZE
            self._file.write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))
            self._file.close()


def _template() -> bytes:
    info = tarfile.TarInfo("")
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


_TEMPLATE = _template()
_MAX_SIZE = 8**11 - 1


def _header(name: str, size: int) -> bytes:
    """What ``tarfile`` writes for such a member, at a fifth of the cost: only name, size and checksum differ."""
    encoded = name.encode("ascii")
    if len(encoded) > 100 or size > _MAX_SIZE:
        raise VipError(f"{name} with {size} bytes does not fit into a plain tar header")
    block = bytearray(_TEMPLATE)
    block[0 : len(encoded)] = encoded
    block[124:136] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a shard: the original bytes, the name of its member and what its JSON says."""

    image_sha256: str
    data: bytes
    member: str
    meta: dict[str, Any]


def read_samples(source: str | IO[bytes]) -> Iterator[Sample]:
    """Stream the samples of a shard, front to back, from a path, a URL or an open file.

    Raises:
        VipError: where the shard is cut short or is no shard.
    """
    where = source if isinstance(source, str) else "the shard"
    try:
        opened = open_binary(source) if isinstance(source, str) else contextlib.nullcontext(source)
        with opened as file, tarfile.open(fileobj=file, mode="r|") as tar:
            image: tuple[str, bytes] | None = None
            for info in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header it has read
                data = tar.extractfile(info).read()  # type: ignore[union-attr]
                key, _, extension = info.name.partition(".")
                if extension != "json":
                    image = (info.name, data)
                elif image is None or not image[0].startswith(f"{key}."):
                    raise VipError(f"{where} holds {info.name} without its image", "run `vip audit verify`")
                else:
                    yield Sample(key, image[1], image[0], json.loads(data))
                    image = None
    except (tarfile.TarError, OSError, ValueError) as error:
        raise VipError(f"{where} cannot be read: {error}", "run `vip audit verify`") from error


def read_one(store: ArtifactStore, shard: Manifest, row: dict[str, Any]) -> bytes:
    """The original bytes of one sample, given its row of the shard's samples table; nothing else is read."""
    return RangePlace(store.place(shard, TAR), row["offset"], row["bytes"]).read()
