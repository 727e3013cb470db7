"""Sources: walk whatever a user calls "my images" and yield one item for each file, tar member or Parquet row.

A folder is read recursively; tars and Parquet files in it are opened where they lie. Nothing is ever extracted, so
that a member's name is only a name. What cannot be read is yielded too, with its reason, and the walk goes on.
"""

import errno
import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.errors import VipError
from schemas.sharding import RejectReason, ShardSettings
from storage.items import (
    CONTAINERS,
    FilePlace,
    Hidden,
    Item,
    Unread,
    is_container,
    is_hidden,
    readable_name,
    stated_split,
)
from storage.parquet_images import walk_parquet
from storage.remote import is_url, open_remote, told_in_one_line
from storage.tars import walk_tar

Found = Item | Unread | Hidden

_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
_SPECIAL = (*CONTAINERS, *_PACKED)


def walk_source(source: str, settings: ShardSettings) -> Iterator[Found]:
    """Everything that ``source`` holds: a folder, a tar, a Parquet file, a glob, or a URL of one of these.

    Names are relative to the source (for a single file or a glob: to the folder that holds it), so that the same
    images under another path give the same dataset.

    Raises:
        VipError: where the source does not exist, is of no kind that can be read, or a Parquet file of its own has
            no column of image bytes.
    """
    if is_url(source) and not source.startswith(("file://", "local://")):
        yield from _walk_url(source, settings)
        return
    source = source.removeprefix("file://").removeprefix("local://")
    path = Path(source).expanduser()
    if path.is_dir():
        yield from _walk_folder(str(path), settings)
    elif path.exists():
        yield from _walk_single(path, settings)
    elif glob.has_magic(source):
        yield from _walk_glob(str(path), settings)
    else:
        raise VipError(f"source {source} does not exist", "give a folder, a tar, a Parquet file, or a glob of them")


def _walk_single(path: Path, settings: ShardSettings) -> Iterator[Found]:
    if not path.is_file():
        raise VipError(f"source {path} is neither a folder nor a file", "give a folder, a tar or a Parquet file")
    if not is_container(path.name):
        raise VipError(
            f"source {path} is neither a folder nor a .tar or .parquet file", "give the folder that holds the images"
        )
    yield from _walk_file(str(path), readable_name(path.name), settings, None, alone=True)


def _walk_glob(pattern: str, settings: ShardSettings) -> Iterator[Found]:
    matches = sorted(glob.glob(pattern, recursive=True), key=os.fsencode)  # noqa: PTH207 - Path.glob wants a fixed base
    if not matches:
        raise VipError(
            f"nothing matches {pattern}", "check the pattern, and quote it so that the shell leaves it alone"
        )
    fixed = []
    for part in Path(pattern).parent.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    base = Path(*fixed) if fixed else Path()
    walked: set[Path] = set()
    for match in matches:
        name = readable_name(os.path.relpath(match, base))
        if not walked.isdisjoint(Path(match).parents):
            continue
        if Path(match).is_dir():
            # What ends in ** names the files of every folder itself.
            if Path(pattern).name != "**":
                walked.add(Path(match))
                yield from _walk_folder(match, settings, name)
            continue
        yield from _walk_file(match, name, settings, stated_split(name, settings.splits))


def _walk_url(url: str, settings: ShardSettings) -> Iterator[Found]:
    try:
        files, root = open_remote(url)
        with told_in_one_line(url):
            sizes = _list_url(files, root)
    except VipError as error:
        raise VipError(f"source cannot be listed: {error.reason}", error.remedy) from error
    except OSError as error:
        raise VipError(f"source {url} cannot be listed: {error}", "check the URL and its credentials") from error
    if not sizes:
        raise VipError(f"source {url} holds no files", "check the URL")
    single = list(sizes) == [root]
    fixed = root.rsplit("/", 1)[0] if single or glob.has_magic(root) else root
    while glob.has_magic(fixed):
        fixed = fixed.rsplit("/", 1)[0]
    for path, size in sorted(sizes.items()):
        name = path.removeprefix(fixed).lstrip("/")
        if is_hidden(name):
            yield Hidden(name)
            continue
        split = stated_split(name, settings.splits)
        yield from _open(files.unstrip_protocol(path), name, size, settings, split, single)


def _list_url(files: Any, root: str) -> dict[str, int]:
    """Every file that a remote path or pattern names, with its size: what the listing says, no request for each."""
    found: dict[str, dict[str, Any]] = {}
    for match, facts in (files.glob(root, detail=True) if glob.has_magic(root) else {root: {}}).items():
        if facts.get("type") == "file":
            found[match] = facts
        else:
            found |= files.find(match, detail=True) or ({match: {}} if files.isfile(match) else {})
    # Of a file that is named itself some file systems list nothing more.
    told = {path: facts or files.info(path) for path, facts in found.items()}
    return {path: int(facts["size"]) for path, facts in told.items() if facts["type"] == "file"}


def _walk_folder(root: str, settings: ShardSettings, called: str = "") -> Iterator[Found]:
    """Depth first, sorted, links to folders last: each real folder is read once, under its own name if it has one.

    Plain strings all the way: a path object for each of a million files would cost more than reading them.
    """
    visited: set[tuple[int, int]] = set()
    links: list[tuple[str, str]] = []
    pending = [(root, called)]
    while pending or links:
        folder, called = pending.pop() if pending else links.pop(0)
        try:
            facts = os.stat(folder)  # noqa: PTH116
            if (facts.st_dev, facts.st_ino) in visited:
                yield Unread(called, RejectReason.SYMLINK_LOOP, "a link to a folder that was read already")
                continue
            visited.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            yield Unread(called or ".", RejectReason.UNREADABLE, error.strerror or type(error).__name__)
            continue
        folders = []
        split = stated_split(f"{called}/file", settings.splits)
        for entry in entries:
            name = readable_name(f"{called}/{entry.name}" if called else entry.name)
            if entry.name.startswith("."):
                yield Hidden(name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append((entry.path, name))
            elif entry.is_symlink() and os.path.isdir(entry.path):  # noqa: PTH112
                links.append((entry.path, name))
            elif entry.is_file(follow_symlinks=False) and not _is_special(name):
                yield Item(name, FilePlace(entry.path), None, split)
            else:
                yield from _walk_file(entry.path, name, settings, split)
        pending.extend(reversed(folders))


def _is_special(name: str) -> bool:
    return name.lower().endswith(_SPECIAL)


def _walk_file(
    path: str, name: str, settings: ShardSettings, split: str | None, alone: bool = False
) -> Iterator[Found]:
    try:
        facts = os.stat(path)  # noqa: PTH116
    except OSError as error:
        reason = RejectReason.SYMLINK_LOOP if error.errno == errno.ELOOP else RejectReason.UNREADABLE
        yield Unread(name, reason, error.strerror or type(error).__name__)
        return
    if stat.S_ISREG(facts.st_mode):
        yield from _open(path, name, facts.st_size, settings, split, alone)
    else:
        yield Unread(name, RejectReason.NOT_A_FILE, "a pipe, socket or device")


def _open(path: str, name: str, size: int, settings: ShardSettings, split: str | None, alone: bool) -> Iterator[Found]:
    if not _is_special(name):
        yield Item(name, FilePlace(path), size, split)
    elif name.lower().endswith(_PACKED):
        yield Unread(name, RejectReason.NOT_AN_IMAGE, "a compressed archive; unpack it, or give a plain .tar", size)
    elif name.lower().endswith(".tar"):
        yield from walk_tar(path, name, size, settings)
    else:
        yield from walk_parquet(path, name, settings, strict=alone)
