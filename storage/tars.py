"""Walk the members of a tar, whole, damaged or hostile, without extracting any."""

import tarfile
from collections.abc import Iterator
from typing import IO, Self

from schemas.sharding import RejectReason, ShardSettings
from storage.items import Hidden, Item, RangePlace, Unread, is_hidden, open_binary, readable_name, stated_split
from storage.remote import is_url

_BLOCK = 512
_PIECE = 2048 * _BLOCK
_LONGEST_HEADER = 1 << 20
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

# What tarfile raises on bytes that are no tar: its own errors, and whatever its field parsers run into.
_BROKEN = (tarfile.TarError, ValueError, OverflowError, LookupError, EOFError, RecursionError)


class _Greedy(Exception):
    """A header that claims to be longer than any name or attribute is."""


class _Info(tarfile.TarInfo):
    """A header as tarfile reads it, which would take as much memory for an extended one as that claims to fill."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTENDED and not 0 <= info.size <= _LONGEST_HEADER:
            raise _Greedy(f"a header that claims {info.size} bytes for itself")
        return info


def walk_tar(path: str, name: str, size: int, settings: ShardSettings) -> Iterator[Item | Unread | Hidden]:
    """Every regular member of a tar.

    A broken header, or a tar glued to the end of another, does not end the walk: the next header that holds together
    is searched for, and the gap is reported under the name of the tar. Links, devices and sparse members are
    reported, never followed.
    """
    try:
        with open_binary(path) as file:
            yield from _walk(file, path, name, size, settings)
    except OSError as error:
        yield Unread(name, RejectReason.UNREADABLE, error.strerror or type(error).__name__, size)


def _walk(
    file: IO[bytes], path: str, name: str, size: int, settings: ShardSettings
) -> Iterator[Item | Unread | Hidden]:
    start, members = 0, 0
    while True:
        end, lying, why = start, False, "no header"
        try:
            for info, following in _members(file, start):
                members += 1
                lying = following > size
                # A size that reaches past the end may be a cut, or a lie with good members behind it: look there.
                end = info.offset_data if lying else following
                found = _member(info, path, name, size, settings)
                if isinstance(found, Item) and is_url(path) and info.size <= settings.max_bytes:
                    # Far away, one pass over the stream is cheaper than a request for every member.
                    file.seek(info.offset_data)
                    data = file.read(info.size)
                    found = Item(found.name, found.place, found.size, found.split, data, found.container)
                if found is not None:
                    yield found
                if lying:
                    break
        except _Greedy as error:
            why = str(error)
        if end >= size:
            yield Unread(name, RejectReason.DAMAGED_TAR, f"no end mark after {members} members: it ends early", size)
            return
        after = _skip_zeros(file, end)
        if after >= size and after - end >= _BLOCK and not lying:
            return
        resume = _next_header(file, after if after > end or lying else after + _BLOCK)
        if after == end or resume != after:
            lost = "nothing after it could be read" if resume is None else f"{resume - after} bytes were left out"
            yield Unread(name, RejectReason.DAMAGED_TAR, f"{why} at byte {after} of {size}: {lost}", size)
        if resume is None:
            return
        start = resume


def _members(file: IO[bytes], start: int) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Members from byte ``start`` on, each with the place where the next header should be.

    Raises:
        _Greedy: at a header that would fill the memory.
    """
    file.seek(start)
    try:
        tar = tarfile.TarFile(fileobj=file, mode="r", tarinfo=_Info, errors="surrogateescape")
    except _BROKEN:
        return
    while True:
        try:
            info = tar.next()
        except _BROKEN:
            return
        if info is None or tar.offset <= info.offset:
            return
        # tarfile keeps every member it has seen; a tar of a million would fill the memory.
        tar.members = []  # type: ignore[attr-defined]
        yield info, tar.offset


def _member(
    info: tarfile.TarInfo, path: str, name: str, size: int, settings: ShardSettings
) -> Item | Unread | Hidden | None:
    inside = readable_name(info.name)
    full = f"{name}/{inside}"
    if info.isdir():
        return None
    if is_hidden(inside):
        return Hidden(full)
    if not info.isreg() or info.issparse():
        return Unread(full, RejectReason.TAR_LINK, "a link, device or sparse member; it is not followed")
    if info.size < 0 or info.offset_data + info.size > size:
        return Unread(full, RejectReason.DAMAGED_TAR, f"the tar ends inside it, {info.size} bytes were announced")
    place = RangePlace(path, info.offset_data, info.size)
    return Item(full, place, info.size, stated_split(full, settings.splits), container=name)


def _skip_zeros(file: IO[bytes], start: int) -> int:
    """The first byte from ``start`` on, in whole blocks, that begins a block with anything but zeros in it."""
    file.seek(start)
    while piece := file.read(_PIECE):
        rest = piece.lstrip(b"\0")
        if rest:
            return start + (len(piece) - len(rest)) // _BLOCK * _BLOCK
        start += len(piece)
    return start


def _next_header(file: IO[bytes], start: int) -> int | None:
    """Where the first block from ``start`` on lies that is a tar header with a right checksum."""
    file.seek(start)
    while piece := file.read(_PIECE):
        found = piece.find(b"ustar", 257)
        while found >= 0:
            place = found - 257
            if place % _BLOCK == 0 and _is_header(piece[place : place + _BLOCK]):
                return start + place
            found = piece.find(b"ustar", found + 1)
        start += len(piece)
    return None


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except _BROKEN:
        return False
    return True
