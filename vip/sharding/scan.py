"""Scan: read a source once, hash everything, and decide which sample belongs where. Nothing is decoded yet."""

import functools
import hashlib
import math
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.sharding import RejectReason, ShardSettings
from storage.answers import key_bits
from storage.items import Hidden, Item, Place, Unread
from storage.sources import Found, walk_source
from storage.split_lists import SplitLists
from vip.sharding.inspect import HEAD, Reject, looks_like_image
from vip.sharding.pool import batches, bounded_map

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total); total is 0 while it is unknown."""

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
_BATCH_ITEMS = 64
_BATCH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One candidate for a sample: its key, all its names, and where its bytes can be fetched.

    One that an earlier shard rejected says why in ``reject``; its bytes are not asked for again.
    """

    sha256: str
    split: str
    size: int
    names: tuple[str, ...]
    places: tuple[Place, ...]
    reject: Reject | None = None


@dataclass(frozen=True, slots=True)
class SourceReject:
    """One row of the rejects table; ``split`` is that of a member of a shard."""

    name: str
    reason: RejectReason
    detail: str
    size: int | None = None
    sha256: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class SourceScan:
    """What a source held at one moment; lives in memory only.

    Attributes:
        source: as the user named it.
        settings: as given.
        bits: number of leading key bits that name a shard, resolved.
        members: every candidate, sorted by key. Whether it decodes is found out by the shard that holds it.
        rejects: what is no candidate, sorted by name.
        suppressed: digest of the suppression list.
        counts: files, hidden, sidecars, duplicates, and with split lists: unlisted.
    """

    source: str
    settings: ShardSettings
    bits: int
    members: tuple[Member, ...]
    rejects: tuple[SourceReject, ...]
    suppressed: str
    counts: dict[str, int] = field(default_factory=dict)

    @functools.cached_property
    def prefixes(self) -> list[str]:
        """The shards that have members, in order, each named by its bits such as ``0110``."""
        return sorted({key_bits(member.sha256, self.bits) for member in self.members})

    def of_shard(self, prefix: str) -> tuple[Member, ...]:
        """The members of one shard, sorted by key."""
        start = int(prefix, 2) << (256 - len(prefix))
        stop = start + (1 << (256 - len(prefix)))
        low = bisect_left(self.members, f"{start:064x}", key=lambda member: member.sha256)
        high = bisect_left(self.members, f"{stop:064x}", key=lambda member: member.sha256)
        return self.members[low : high if stop < 1 << 256 else None]

    def only(self, prefixes: Iterable[str]) -> "SourceScan":
        """The same scan with the members of some shards and no rejects: small enough to send to another process."""
        return replace(self, members=tuple(m for prefix in prefixes for m in self.of_shard(prefix)), rejects=())


def scan_source(
    source: str,
    settings: ShardSettings,
    suppress: Iterable[str] = (),
    workers: int | None = None,
    previous_bits: int | None = None,
    progress: Progress | None = None,
) -> SourceScan:
    """Read and hash everything in ``source``.

    Every byte is read every time: changed bytes behind an unchanged path, size and time are seen.

    Args:
        source: folder, tar, Parquet file, glob or URL; see :func:`storage.sources.walk_source`.
        settings: splits, limits, bits.
        suppress: SHA-256 of images that must never come in.
        workers: threads; None takes one a core. No result depends on it.
        previous_bits: those of the dataset's last version. They are kept until shards would be more than four times
            too large or too small, so that one more image does not rebuild everything.
        progress: called with what is done, how many, of how many.

    Raises:
        VipError: where the source does not exist, cannot be read as what it is, or holds nothing like an image.
    """
    unwanted = frozenset(value.strip().lower() for value in suppress)
    state = _State(settings, unwanted)
    done = 0
    look = _Look(settings.max_bytes)
    lists = SplitLists.of(settings)
    walk = walk_source(source, settings)
    groups = batches(lists.choose(walk) if lists else walk, _size_of, _BATCH_ITEMS, _BATCH_BYTES)
    for batch in bounded_map(look, groups, workers or os.cpu_count() or 1):
        for seen in batch:
            state.take(seen)
        done += len(batch)
        if progress is not None:
            progress("files read", done, 0)
    members = state.members()
    rejects = tuple(sorted(state.rejects(), key=lambda row: (row.name, row.reason, row.sha256 or "")))
    if not members:
        raise VipError(
            f"source {source} holds no images{_why(rejects)}", "give a folder, tar or Parquet file that does"
        )
    counts = {"files": done, "hidden": state.hidden, "sidecars": state.sidecars, "duplicates": state.duplicates}
    if lists:
        counts["unlisted"] = lists.left_out
    return SourceScan(
        source=source,
        settings=settings,
        bits=resolve_bits(len(members), settings, previous_bits),
        members=members,
        rejects=rejects,
        suppressed=fingerprint(sorted(unwanted)),
        counts=counts,
    )


def split_of(sha256: str, test_share: float) -> str:
    """The split of a key, from its end, so that it does not follow the shard's bits."""
    return "test" if int(sha256[-8:], 16) < test_share * 2**32 else "train"


def resolve_bits(samples: int, settings: ShardSettings, previous: int | None) -> int:
    """How many bits name a shard: as set, else as before where that is still fair, else from the number of samples."""
    if settings.bits is not None:
        return settings.bits
    wanted = math.log2(max(samples, 1) / settings.samples_per_shard)
    if previous is not None and (abs(wanted - previous) <= 2 or (previous == 1 and wanted < 1)):
        return previous
    return min(20, max(1, round(wanted)))


def _why(rejects: tuple[SourceReject, ...]) -> str:
    if not rejects:
        return " and no other files"
    reason, number = Counter(row.reason for row in rejects).most_common(1)[0]
    first = next(row for row in rejects if row.reason == reason)
    return f": {number} of {len(rejects)} rejected as {reason.value}, such as {first.name!r} ({first.detail})"


@dataclass(frozen=True, slots=True)
class _Seen:
    item: Item
    sha256: str | None = None
    reject: SourceReject | None = None


class _Look:
    """Hash a batch of items; runs in threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes

    def __call__(self, batch: list[Found]) -> list[_Seen | Unread | Hidden]:
        return [self._item(found) if isinstance(found, Item) else found for found in batch]

    def _item(self, item: Item) -> _Seen:
        bare, size = item, item.size
        try:
            if size is None:
                size = item.place.measure()
            if size > self.max_bytes:
                detail = f"{size} bytes, the limit is {self.max_bytes}"
                return _Seen(bare, None, SourceReject(item.name, RejectReason.TOO_LARGE, detail, size))
            data = item.read()
        except OSError as error:
            detail = error.strerror or type(error).__name__
            return _Seen(bare, None, SourceReject(item.name, RejectReason.UNREADABLE, detail, size))
        if not data:
            return _Seen(bare, None, SourceReject(item.name, RejectReason.EMPTY, "zero bytes", 0))
        sha256 = hashlib.sha256(data).hexdigest()
        bare = Item(item.name, item.place, len(data), item.split, None, item.container)
        if looks_like_image(data[:HEAD]):
            return _Seen(bare, sha256)
        detail = "no format that is read here"
        return _Seen(bare, sha256, SourceReject(item.name, RejectReason.NOT_AN_IMAGE, detail, len(data), sha256))


class _State:
    """What the scan has gathered so far. Its results do not depend on the order in which things come."""

    def __init__(self, settings: ShardSettings, unwanted: frozenset[str]) -> None:
        self.settings = settings
        self.unwanted = unwanted
        self.hidden = 0
        self.sidecars = 0
        self._found: dict[str, list[Item]] = {}
        self._rejects: list[SourceReject] = []
        self._stems: set[str] = set()
        self._strangers: list[SourceReject] = []

    def take(self, seen: _Seen | Unread | Hidden) -> None:
        if isinstance(seen, Hidden):
            self.hidden += 1
        elif isinstance(seen, Unread):
            self._rejects.append(SourceReject(seen.name, seen.reason, seen.detail, seen.size))
        elif seen.reject is None and seen.sha256 is not None:
            self._stems.add(_stem(seen.item.name))
            if seen.sha256 in self.unwanted:
                detail = "on the suppression list"
                row = SourceReject(seen.item.name, RejectReason.SUPPRESSED, detail, seen.item.size, seen.sha256)
                self._rejects.append(row)
            else:
                self._found.setdefault(seen.sha256, []).append(seen.item)
        elif seen.reject is not None:
            by_name = PurePosixPath(seen.item.name).suffix.lower() in _IMAGE_SUFFIXES
            if by_name:
                self._stems.add(_stem(seen.item.name))
            if seen.reject.reason in (RejectReason.NOT_AN_IMAGE, RejectReason.EMPTY) and not by_name:
                self._strangers.append(seen.reject)
            else:
                self._rejects.append(seen.reject)

    def rejects(self) -> Iterator[SourceReject]:
        """All rejects; what stands beside an image under the same stem (its caption, its JSON) is only counted."""
        yield from self._rejects
        self.sidecars = 0
        for row in self._strangers:
            if _stem(row.name) in self._stems:
                self.sidecars += 1
            else:
                yield row

    def members(self) -> tuple[Member, ...]:
        found = []
        for sha256, items in self._found.items():
            items.sort(key=lambda item: item.name)
            stated = {item.split for item in items if item.split}
            by_key = split_of(sha256, self.settings.test_share)
            split = ("test" if "test" in stated else "train") if stated else by_key
            names = tuple(dict.fromkeys(item.name for item in items))
            found.append(Member(sha256, split, items[0].size or 0, names, tuple(item.place for item in items)))
        return tuple(sorted(found, key=lambda member: member.sha256))

    @property
    def duplicates(self) -> int:
        """Files beyond the first with the same bytes."""
        return sum(len(items) - 1 for items in self._found.values())


def _stem(name: str) -> str:
    """The key by which WebDataset groups members: the name up to the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.split('.', 1)[0]}"


def _size_of(found: Found) -> int:
    return found.size or 0 if isinstance(found, Item) and found.data is not None else 0
