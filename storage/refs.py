"""Refs: names that move. Numbered immutable objects; the highest wins, the rest is the log."""

import re
from datetime import UTC, datetime

from pydantic import ValidationError

from schemas.canonical import canonical_json
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, RefEntry
from storage.backend import Backend

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")


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
            entry = RefEntry(name=name, number=number, target=target, at=datetime.now(UTC), note=note)
            path = f"refs/{name}/{entry.number:08d}.json"
            if self.backend.put_if_absent(path, canonical_json(entry.model_dump(mode="json"))):
                return entry
            # Someone else took the number between our look and our write: look again, and above it.
            taken = number

    def get(self, name: str) -> ArtifactRef | None:
        """Where ``name`` points now, or None."""
        log = self.log(name)
        return log[-1].target if log else None

    def log(self, name: str) -> list[RefEntry]:
        """Every entry of ``name``, oldest first.

        Raises:
            VipError: where one of them is not what was written.
        """
        paths = [path for path in self.backend.list(f"refs/{name}") if path.count("/") == name.count("/") + 2]
        return [self._entry(path) for path in paths]

    def names(self) -> list[str]:
        """Every name that was ever set."""
        return sorted({path.removeprefix("refs/").rsplit("/", 1)[0] for path in self.backend.list("refs")})

    def _entry(self, path: str) -> RefEntry:
        try:
            return RefEntry.model_validate_json(self.backend.get(path))
        except ValidationError as error:
            raise VipError(f"{path} cannot be read: {error.errors()[0]['msg']}", "run `vip audit verify`") from error
