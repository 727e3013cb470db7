"""Findings: what a verification looked at and what it found."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from storage.backend import Backend

Progress = Callable[[str, int, int], None]
_PIECE = 4 << 20


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was published.

    Attributes:
        file: the file to look at, relative to the root.
        problem: what is wrong with it.
    """

    file: str
    problem: str


@dataclass
class Verification:
    """What was checked and what was found."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)  # explained or harmless: removals, leftovers of a crash
    artifacts: int = 0
    removed: int = 0
    files: int = 0
    bytes: int = 0
    refs: int = 0
    segments: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything is as it was published."""
        return not self.problems

    def problem(self, file: str, problem: str) -> None:
        """Something that nothing explains."""
        self.problems.append(Problem(file, problem))

    def note(self, file: str, note: str) -> None:
        """Something that is explained or harmless."""
        self.notes.append(Problem(file, note))

    def count(self, size: int) -> None:
        """One more file was read."""
        self.files += 1
        self.bytes += size

    def __post_init__(self) -> None:
        self.known: dict[str, tuple[int, str]] = {}

    def hash(self, backend: Backend, path: str) -> tuple[int, str]:
        """Size and SHA-256 of a file, read in pieces where it is not known already.

        Raises:
            FileNotFoundError: where there is none.
        """
        size, digest = self.known.get(path) or hash_file(backend, path)
        self.count(size)
        return size, digest


def hash_file(backend: Backend, path: str) -> tuple[int, str]:
    """Size and SHA-256 of a file, read in pieces.

    Raises:
        FileNotFoundError: where there is none.
    """
    size, digest = 0, hashlib.sha256()
    with backend.open(path) as file:
        while piece := file.read(_PIECE):
            size += len(piece)
            digest.update(piece)
    return size, digest.hexdigest()
