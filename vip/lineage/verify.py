"""Verify: re-hash everything in a root and follow every link. Trusts no index.

A root may be written to meanwhile. What is listed first is what needs the rest, so that a file that is published during
the walk is not missed, and what seems to be missing is looked at once more before it is called so.
"""

import time
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from schemas.canonical import sha256_hex
from schemas.manifest import ArtifactRef, Manifest, Output, Publication, RefEntry, Tombstone, digest_of
from storage.backend import Backend
from storage.layout import artifact_folder
from vip.lineage.findings import Problem, Progress, Verification
from vip.lineage.verify_answers import verify_answers

__all__ = ["Problem", "Verification", "verify"]

M = TypeVar("M", bound=BaseModel)
_SETTLED_SECONDS = 60.0
"""Between the manifest of an artifact and its publication lies a moment; one of this age is no write that goes on."""


def verify(
    backend: Backend, progress: Progress | None = None, hashed: Mapping[str, tuple[int, str]] | None = None
) -> Verification:
    """Re-hash every file of every artifact and of the answers; follow every input and every ref.

    Args:
        backend: the root.
        progress: called as (what, done, total).
        hashed: path -> size and SHA-256 of files that others have just read; the rest is read here.
    """
    verifier = _Verifier(backend, progress)
    verifier.found.known.update(hashed or {})
    return verifier.run()


class _Verifier:
    def __init__(self, backend: Backend, progress: Progress | None) -> None:
        self.backend = backend
        self.progress = progress
        self.found = Verification()
        # A ref needs its target, an artifact its files; a removal leaves its record before it takes anything.
        self.files = {
            folder: list(backend.list(folder))
            for folder in ("refs", "published", "tombstones", "collected", "artifacts")
        }
        self.present = set(self.files["artifacts"])
        self.published: dict[tuple[str, str], Publication] = {}
        self.stones: dict[tuple[str, str], Tombstone] = {}
        self.collected: dict[tuple[str, str], Tombstone] = {}
        self.manifests: list[tuple[str, Manifest]] = []
        self.expected: set[str] = set()

    def run(self) -> Verification:
        for path in self.files["tombstones"]:
            self._stone(path)
        for path in self.files["collected"]:
            self._record(path)
        for done, path in enumerate(self.files["published"]):
            self._artifact(path)
            if self.progress:
                self.progress("artifacts", done + 1, len(self.files["published"]))
        for kind, key in self.stones.keys() - self.published.keys():
            self.found.problem(f"tombstones/{kind}/{key}.json", "no publication stands behind this removal")
        for where, manifest in self.manifests:
            for role, ref in manifest.inputs.items():
                if trouble := self._reach(ref):
                    self.found.problem(where, f"input {role} ({ref.kind} {ref.key[:12]}) {trouble}")
        self._leftovers()
        self._refs()
        standing = [(where, one) for where, one in self.manifests if (one.kind, one.key) not in self.stones]
        verify_answers(self.backend, self.found, [one for one in standing if one[1].kind == "captions"])
        return self.found

    def _parse(self, model: type[M], path: str) -> M | None:
        try:
            return model.model_validate_json(self.backend.get(path))
        except ValidationError as error:
            self.found.problem(path, f"cannot be read as {model.__name__.lower()}: {error.errors()[0]['msg']}")
        except OSError as error:
            place = path.removesuffix(".json").split("/")
            if not (place[0] == "published" and len(place) == 3 and self._went_meanwhile(*place[1:])):
                self.found.problem(path, f"cannot be read: {error.strerror or error}")
        return None

    def _placed(self, path: str, folder: str, kind: str, key: str) -> bool:
        if path == f"{folder}/{kind}/{key}.json":
            return True
        self.found.problem(path, f"names {kind} {key[:12]}, which is not where it lies")
        return False

    def _stone(self, path: str) -> None:
        stone = self._parse(Tombstone, path)
        if stone is not None and self._placed(path, "tombstones", stone.kind, stone.key):
            self.stones[stone.kind, stone.key] = stone

    def _record(self, path: str) -> None:
        """A record of what gc took; it holds a manifest, which must hash to the key under which it lies."""
        stone = self._parse(Tombstone, path)
        if stone is None:
            return
        manifest = stone.manifest
        if manifest is None or not path.startswith(f"collected/{manifest.kind}/{manifest.key}/"):
            self.found.problem(path, "is no record of the artifact under whose name it lies")
        elif manifest.recipe.key != manifest.key or digest_of(manifest.outputs) != stone.digest:
            self.found.problem(path, "changed: the manifest in it does not hash to its key and digest")
        else:
            self.collected[manifest.kind, manifest.key] = stone
            self.found.note(path, f"collected: {stone.reason}")

    def _artifact(self, path: str) -> None:
        publication = self._parse(Publication, path)
        if publication is None or not self._placed(path, "published", publication.kind, publication.key):
            return
        key = (publication.kind, publication.key)
        self.published[key] = publication
        place = artifact_folder(*key, publication.digest)
        where = f"{place}/manifest.json"
        self.expected.add(where)
        try:
            data = self.backend.get(where)
        except FileNotFoundError:
            if not self._went_meanwhile(*key):
                self.found.problem(where, f"missing, although {path} names it")
            return
        self.found.count(len(data))
        if sha256_hex(data) != publication.manifest_sha256:
            self.found.problem(where, f"changed: its hash is not the one in {path}")
            self.expected.update(name for name in self.present if name.startswith(f"{place}/"))
            return
        manifest = self._parse(Manifest, where)
        if manifest is None:
            return
        self.manifests.append((where, manifest))
        self._self_consistent(path, where, publication, manifest)
        if key in self.stones:
            self.found.removed += 1
            self._erased(place, manifest, self.stones[key])
            return
        self.found.artifacts += 1
        for name, output in manifest.outputs.items():
            self._output(f"{place}/{name}", output, key)

    def _self_consistent(self, path: str, where: str, publication: Publication, manifest: Manifest) -> None:
        if publication.digest != manifest.digest:
            self.found.problem(path, f"its digest is not the one in {where}")
        if manifest.recipe.key != publication.key:
            self.found.problem(where, "its inputs and params do not hash to its key")
        if digest_of(manifest.outputs) != manifest.digest:
            self.found.problem(where, "its outputs do not hash to its digest")

    def _output(self, path: str, output: Output, key: tuple[str, str]) -> None:
        self.expected.add(path)
        try:
            size, sha256 = self.found.hash(self.backend, path)
        except FileNotFoundError:
            if not self._went_meanwhile(*key):
                self.found.problem(path, "missing, although its manifest names it")
            return
        if size != output.bytes:
            self.found.problem(path, f"changed: {size} bytes instead of {output.bytes}")
        elif sha256 != output.sha256:
            self.found.problem(path, "changed: its hash is not the one in its manifest")

    def _went_meanwhile(self, kind: str, key: str) -> bool:
        """Whether gc or a takedown has removed an artifact since the root was listed."""
        if self.backend.exists(f"tombstones/{kind}/{key}.json"):
            return (kind, key) not in self.stones
        recorded = any(True for _ in self.backend.list(f"collected/{kind}/{key}"))
        return recorded and not self.backend.exists(f"published/{kind}/{key}.json")

    def _erased(self, place: str, manifest: Manifest, stone: Tombstone) -> None:
        for name in manifest.outputs:
            path = f"{place}/{name}"
            self.expected.add(path)
            if path in self.present and self.backend.exists(path):
                self.found.problem(path, "still there, although it was removed on purpose; run the removal again")
        if stone.digest != manifest.digest or stone.inputs != manifest.inputs:
            self.found.problem(
                f"tombstones/{stone.kind}/{stone.key}.json", "does not describe the artifact that it removes"
            )
        self.found.note(place, f"removed: {stone.reason}")

    def _reach(self, ref: ArtifactRef) -> str | None:
        """Why an artifact that another one or a ref names is not to be had; None where it is."""
        key = (ref.kind, ref.key)
        known = [found for found in (self.published.get(key), self.collected.get(key)) if found is not None]
        if not known and self._appeared(ref):
            return None
        if not known:
            return "is not in this root"
        if all(found.digest != ref.digest for found in known):
            # Equal recipes may differ in output (a model need not answer twice alike), but one root holds one.
            return "stands here with another digest"
        return None

    def _appeared(self, ref: ArtifactRef) -> bool:
        """Whether an artifact was published, or collected, while the root was listed."""
        path = f"published/{ref.kind}/{ref.key}.json"
        if path in self.files["published"]:
            return self._went_meanwhile(ref.kind, ref.key)
        try:
            return Publication.model_validate_json(self.backend.get(path)).digest == ref.digest
        except (FileNotFoundError, ValidationError):
            return self._went_meanwhile(ref.kind, ref.key)

    def _leftovers(self) -> None:
        """Files that no publication speaks of: foreign inside a published folder, else left by a crash."""
        folders = {path.rsplit("/", 1)[0] for path in self.expected if path.endswith("/manifest.json")}
        for path in self.files["artifacts"]:
            if path in self.expected:
                continue
            if "/".join(path.split("/")[:4]) in folders:
                self.found.problem(path, "no manifest names it")
            elif path.endswith("/manifest.json") and self._orphaned(path):
                self.found.problem(
                    path, "whole, but not published: its publication is gone, or its run was killed at the last moment"
                )
            else:
                self.found.note(path, "never published: left by an interrupted write, `vip gc` removes it")

    def _orphaned(self, path: str) -> bool:
        """Whether a manifest stands that once was published, as far as can be told."""
        _, kind, key, *_ = path.split("/")
        if (kind, key) in self.published or (kind, key) in self.collected:
            return False  # another writer was first, or gc was interrupted
        try:
            written = self.backend.modified(path)
        except FileNotFoundError:
            return False
        settled = written is None or time.time() - written > _SETTLED_SECONDS
        return settled and not self.backend.exists(f"published/{kind}/{key}.json")

    def _refs(self) -> None:
        last: dict[str, RefEntry] = {}
        for path in self.files["refs"]:
            entry = self._parse(RefEntry, path)
            if entry is None:
                continue
            self.found.refs += 1
            if path != f"refs/{entry.name}/{entry.number:08d}.json":
                self.found.problem(path, f"says it is {entry.name} number {entry.number}, which is not where it lies")
                continue
            number = last[entry.name].number + 1 if entry.name in last else 1
            places = [f"refs/{entry.name}/{one:08d}.json" for one in range(number, entry.number)]
            if entry.number < number or not all(self.backend.exists(place) for place in places):
                self.found.problem(path, f"number {number} of {entry.name}, which should come before it, is missing")
            last[entry.name] = entry
            trouble = self._reach(entry.target)
            if trouble:
                self.found.problem(path, f"dangling: {entry.target.kind} {entry.target.key[:12]} {trouble}")
            else:
                target = (entry.target.kind, entry.target.key)
                stone = self.stones.get(target) or (None if target in self.published else self.collected.get(target))
                if stone is not None:
                    self.found.note(path, f"points at {stone.kind} {stone.key[:12]}, which was removed: {stone.reason}")
