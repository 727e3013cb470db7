"""Spool: fetch the Parquet rows that shards need in one pass, because a table cannot be read row by row."""

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from storage.items import Column, RangePlace, RowPlace, read_rows
from vip.sharding.scan import Member, SourceScan


def needs_spool(members: Iterable[Member]) -> bool:
    """Whether the bytes of any member lie in Parquet rows only."""
    return any(member.places and all(isinstance(place, RowPlace) for place in member.places) for member in members)


def spool_rows(members: tuple[Member, ...], target: Path) -> tuple[Member, ...]:
    """Copy the rows of ``members`` into one file, each row group read once, and point the members at the copies.

    The members keep their old places too. What cannot be read is left as it is; the shard that needs it will say so.
    """
    wanted: dict[tuple[str, Column, int], dict[int, int]] = defaultdict(dict)
    for number, member in enumerate(members):
        if needs_spool([member]) and isinstance(place := member.places[0], RowPlace):
            wanted[place.path, place.column, place.group][place.row] = number
    placed = list(members)
    with target.open("wb") as file:
        for (path, column, group), rows in sorted(wanted.items()):
            with contextlib.suppress(OSError):
                for row, data in read_rows(path, column, group, rows):
                    number = rows[row]
                    copy = RangePlace(str(target), file.tell(), len(data))
                    placed[number] = replace(members[number], places=(copy, *members[number].places))
                    file.write(data)
    return tuple(placed)


@contextlib.contextmanager
def spooled(scan: SourceScan, prefixes: Iterable[str]) -> Iterator[SourceScan]:
    """The scan with the Parquet rows of the shards still to be made copied to a scratch folder.

    Without it every shard reads all row groups for itself. Where nothing lies in Parquet this does nothing.

    Args:
        scan: what was found.
        prefixes: the shards that have yet to be built.
    """
    missing = [member for prefix in prefixes for member in scan.of_shard(prefix)]
    if not needs_spool(missing):
        yield scan
        return
    with tempfile.TemporaryDirectory(prefix="vip-rows-") as folder:
        copied = {member.sha256: member for member in spool_rows(tuple(missing), Path(folder) / "rows")}
        yield replace(scan, members=tuple(copied.get(member.sha256, member) for member in scan.members))
