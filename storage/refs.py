"""Refs: names that move. Numbered immutable objects; the highest wins, the rest is the log."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import ValidationError

from schemas.canonical import canonical_json
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, RefEntry
from storage.backend import Backend

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_ENTRY = re.compile(r"refs/(.+)/\d{8}\.json")


class Refs:
    """Moving names in one root."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def set(self, name: str, target: ArtifactRef, note: str = "") -> RefEntry:
        """Point ``name`` at ``target``; nothing is written where it already points there.

        Raises:
            VipError: for a name that is not lower-case words, digits, ``.``, ``_``, ``-`` joined by ``/``.
        """
        if not _NAME.fullmatch(name):
            raise VipError(f"'{name}' is no name for a ref", "use lower-case letters, digits, '.', '_', '-' and '/'")
        taken = 0
        while True:
            log = self.log(name)
            if log and log[-1].target == target:
                return log[-1]
            number = 1 + max(taken, log[-1].number if log else 0)
            entry = self._put(name, number, target, note)
            if entry is not None:
                return entry
            # Someone else took the number between our look and our write: look again, and above it.
            taken = number

    def set_after(self, name: str, last: RefEntry | None, target: ArtifactRef, note: str = "") -> bool:
        """Point ``name`` at what was made from its entry ``last`` (None: it has none yet).

        Returns:
            False where somebody else has set it since; nothing is written then.
        """
        return self._put(name, 1 + last.number if last else 1, target, note) is not None

    def _put(self, name: str, number: int, target: ArtifactRef, note: str) -> RefEntry | None:
        entry = RefEntry(name=name, number=number, target=target, at=datetime.now(UTC), note=note)
        path = f"refs/{name}/{number:08d}.json"
        written = self.backend.put_if_absent(path, canonical_json(entry.model_dump(mode="json")))
        return entry if written else None

    def get(self, name: str) -> ArtifactRef | None:
        """Where ``name`` points now, or None."""
        last = self.last(name)
        return last.target if last else None

    def last(self, name: str) -> RefEntry | None:
        """The entry that counts now, or None."""
        log = self.log(name)
        return log[-1] if log else None

    def log(self, name: str) -> list[RefEntry]:
        """Every entry of ``name``, oldest first.

        Raises:
            VipError: where one of them is not what was written.
        """
        return [self._entry(path) for of, path in self._entries(f"refs/{name}") if of == name]

    def names(self) -> list[str]:
        """Every name that was ever set."""
        return sorted({name for name, _ in self._entries("refs")})

    def _entries(self, folder: str) -> Iterator[tuple[str, str]]:
        """(name, path) of each entry in order; what else lies there, such as a file of a file manager, is none."""
        for path in self.backend.list(folder):
            if found := _ENTRY.fullmatch(path):
                yield found[1], path

    def _entry(self, path: str) -> RefEntry:
        try:
            return RefEntry.model_validate_json(self.backend.get(path))
        except ValidationError as error:
            raise VipError(f"{path} cannot be read: {error.errors()[0]['msg']}", "run `vip audit verify`") from error
