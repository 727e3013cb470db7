"""Search: every file of a root that still holds the bytes of an image."""

import contextlib
from collections.abc import Callable
from typing import IO

from storage.backend import Backend

Progress = Callable[[str, int, int], None]
_PIECE = 16 << 20


def files_holding(
    backend: Backend, pictures: dict[str, bytes], progress: Progress | None = None
) -> list[tuple[str, str]]:
    """Read every file of the root, artifacts, scratch, logs and leftovers alike.

    Args:
        backend: the root.
        pictures: SHA-256 -> the bytes to look for; they are found where they stand uncompressed and in one piece, as
            in a tar, a Parquet page without compression or a file of its own.
        progress: called as (what, done, total).

    Returns:
        (path, SHA-256) of each find.
    """
    wanted = {sha256: data for sha256, data in pictures.items() if data}
    if not wanted:
        return []
    found = []
    paths = list(backend.list("", unfinished=True))
    for done, path in enumerate(paths, 1):
        path = path.lstrip("/")
        # What is gone by now, as a half-written file of a run beside this one, holds nothing.
        with contextlib.suppress(FileNotFoundError), backend.open(path) as file:
            found += [(path, sha256) for sha256 in sorted(_held(file, wanted))]
        if progress:
            progress("files searched", done, len(paths))
    return found


def _held(file: IO[bytes], wanted: dict[str, bytes]) -> set[str]:
    overlap = max(len(data) for data in wanted.values()) - 1
    found: set[str] = set()
    window = b""
    while piece := file.read(max(_PIECE, overlap)):
        window = window[-overlap:] + piece if overlap else piece
        found |= {sha256 for sha256, data in wanted.items() if sha256 not in found and data in window}
        if len(found) == len(wanted):
            break
    return found
