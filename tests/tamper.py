"""What a test does to a root behind its back, and what verify then names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.backend import Backend
from vip.lineage.verify import verify


def files_of(root: Path, *folders: str) -> list[Path]:
    """Every file under some folders of a root, in order."""
    return [path for folder in folders for path in sorted((root / folder).rglob("*")) if path.is_file()]


@contextmanager
def flipped(path: Path, position: int) -> Iterator[None]:
    """One bit of the byte at ``position`` is another for as long as the block lasts."""
    good = path.read_bytes()
    bad = bytearray(good)
    bad[position] ^= 1
    path.write_bytes(bytes(bad))
    try:
        yield
    finally:
        path.write_bytes(good)


def named(root: Path) -> set[str]:
    """The files that verify names as the place of a problem, relative to the root."""
    return {problem.file for problem in verify(Backend(str(root))).problems}


def mentioned(root: Path) -> str:
    """All that verify says of its problems."""
    return " ".join(f"{problem.file} {problem.problem}" for problem in verify(Backend(str(root))).problems)
