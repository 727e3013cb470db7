"""Verify: re-hash everything in a root and follow every link. Trusts no index."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from schemas.canonical import fingerprint, sha256_hex
from schemas.manifest import ArtifactRef, Manifest, Output, Publication, Recipe, RefEntry, Tombstone, digest_of
from storage.backend import Backend

Progress = Callable[[str, int, int], None]
M = TypeVar("M", bound=BaseModel)


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


def verify(backend: Backend, progress: Progress | None = None) -> Verification:
    """Re-hash every file of every artifact and of the answers; follow every input and every ref.

    Args:
        backend: the root.
        progress: called as (what, done, total).
    """
    return _Verifier(backend, progress).run()


class _Verifier:
    def __init__(self, backend: Backend, progress: Progress | None) -> None:
        self.backend = backend
        self.progress = progress
        self.found = Verification()
        self.files = {folder: list(backend.list(folder)) for folder in ("artifacts", "published", "tombstones", "refs")}
        self.present = set(self.files["artifacts"])
        self.published: dict[tuple[str, str], Publication] = {}
        self.stones: dict[tuple[str, str], Tombstone] = {}
        self.collected: dict[tuple[str, str], Tombstone] = {}
        self.manifests: list[tuple[str, Manifest]] = []
        self.expected: set[str] = set()

    def run(self) -> Verification:
        for path in self.files["tombstones"]:
            stone = self._parse(Tombstone, path)
            if stone is not None and self._placed(path, "tombstones", stone.kind, stone.key):
                self.stones[stone.kind, stone.key] = stone
        self._collected()
        for done, path in enumerate(self.files["published"]):
            self._artifact(path)
            if self.progress:
                self.progress("artifacts", done + 1, len(self.files["published"]))
        for key, stone in self.stones.items():
            if key not in self.published:
                self._problem(f"tombstones/{stone.kind}/{stone.key}.json", "no publication stands behind this removal")
        self._links()
        self._leftovers()
        self._refs()
        self._answers()
        return self.found

    def _problem(self, file: str, problem: str) -> None:
        self.found.problems.append(Problem(file, problem))

    def _note(self, file: str, problem: str) -> None:
        self.found.notes.append(Problem(file, problem))

    def _parse(self, model: type[M], path: str) -> M | None:
        try:
            return model.model_validate_json(self.backend.get(path))
        except ValidationError as error:
            self._problem(path, f"cannot be read as {model.__name__.lower()}: {error.errors()[0]['msg']}")
        except OSError as error:
            self._problem(path, f"cannot be read: {error.strerror or error}")
        return None

    def _placed(self, path: str, folder: str, kind: str, key: str) -> bool:
        if path == f"{folder}/{kind}/{key}.json":
            return True
        self._problem(path, f"names {kind} {key[:12]}, which is not where it lies")
        return False

    def _collected(self) -> None:
        """Records of what gc took; each holds a manifest, which must hash to the key under which it lies."""
        for path in self.backend.list("collected"):
            stone = self._parse(Tombstone, path)
            if stone is None:
                continue
            manifest = stone.manifest
            if manifest is None or not path.startswith(f"collected/{manifest.kind}/{manifest.key}/"):
                self._problem(path, "is no record of the artifact under whose name it lies")
            elif _recipe(manifest).key != manifest.key or digest_of(manifest.outputs) != stone.digest:
                self._problem(path, "changed: the manifest in it does not hash to its key and digest")
            else:
                self.collected[manifest.kind, manifest.key] = stone
                self._note(path, f"collected: {stone.reason}")

    def _artifact(self, path: str) -> None:
        publication = self._parse(Publication, path)
        if publication is None or not self._placed(path, "published", publication.kind, publication.key):
            return
        key = (publication.kind, publication.key)
        self.published[key] = publication
        place = f"artifacts/{publication.kind}/{publication.key}/{publication.digest[:16]}"
        where = f"{place}/manifest.json"
        self.expected.add(where)
        if where not in self.present:
            self._problem(where, f"missing, although {path} names it")
            return
        data = self.backend.get(where)
        self._count(len(data))
        if sha256_hex(data) != publication.manifest_sha256:
            self._problem(where, f"changed: its hash is not the one in {path}")
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
            self._output(f"{place}/{name}", output)

    def _self_consistent(self, path: str, where: str, publication: Publication, manifest: Manifest) -> None:
        if publication.digest != manifest.digest:
            self._problem(path, f"its digest is not the one in {where}")
        if _recipe(manifest).key != publication.key:
            self._problem(where, "its inputs and params do not hash to its key")
        if digest_of(manifest.outputs) != manifest.digest:
            self._problem(where, "its outputs do not hash to its digest")

    def _output(self, path: str, output: Output) -> None:
        self.expected.add(path)
        if path not in self.present:
            self._problem(path, "missing, although its manifest names it")
            return
        size, sha256 = self._hash(path)
        if size != output.bytes:
            self._problem(path, f"changed: {size} bytes instead of {output.bytes}")
        elif sha256 != output.sha256:
            self._problem(path, "changed: its hash is not the one in its manifest")

    def _hash(self, path: str) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        with self.backend.open(path) as file:
            while piece := file.read(4 << 20):
                size += len(piece)
                digest.update(piece)
        self._count(size)
        return size, digest.hexdigest()

    def _count(self, size: int) -> None:
        self.found.files += 1
        self.found.bytes += size

    def _erased(self, place: str, manifest: Manifest, stone: Tombstone) -> None:
        for name in manifest.outputs:
            path = f"{place}/{name}"
            self.expected.add(path)
            if path in self.present:
                self._problem(path, "still there, although it was removed on purpose; run the removal again")
        if stone.digest != manifest.digest or stone.inputs != manifest.inputs:
            self._problem(f"tombstones/{stone.kind}/{stone.key}.json", "does not describe the artifact that it removes")
        self._note(place, f"removed: {stone.reason}")

    def _links(self) -> None:
        for where, manifest in self.manifests:
            for role, ref in manifest.inputs.items():
                trouble = self._reach(ref)
                if trouble:
                    self._problem(where, f"input {role} ({ref.kind} {ref.key[:12]}) {trouble}")

    def _reach(self, ref: ArtifactRef) -> str | None:
        key = (ref.kind, ref.key)
        known = [found for found in (self.published.get(key), self.collected.get(key)) if found is not None]
        if not known:
            return "is not in this root"
        if all(found.digest != ref.digest for found in known):
            # Equal recipes may differ in output (a model need not answer twice alike), but one root holds one.
            return "stands here with another digest"
        return None

    def _leftovers(self) -> None:
        """Files that no publication speaks of: foreign inside a published folder, else left by a crash."""
        folders = {path.rsplit("/", 1)[0] for path in self.expected if path.endswith("/manifest.json")}
        for path in self.files["artifacts"]:
            if path in self.expected:
                continue
            place = "/".join(path.split("/")[:4])
            if place in folders:
                self._problem(path, "no manifest names it")
            else:
                self._note(path, "never published: left by an interrupted write, `vip gc` removes it")

    def _refs(self) -> None:
        last: dict[str, RefEntry] = {}
        for path in self.files["refs"]:
            entry = self._parse(RefEntry, path)
            if entry is None:
                continue
            self.found.refs += 1
            if path != f"refs/{entry.name}/{entry.number:08d}.json":
                self._problem(path, f"says it is {entry.name} number {entry.number}, which is not where it lies")
                continue
            number = last[entry.name].number + 1 if entry.name in last else 1
            if entry.number != number:
                self._problem(path, f"number {number} of {entry.name}, which should come before it, is missing")
            last[entry.name] = entry
            trouble = self._reach(entry.target)
            if trouble:
                self._problem(path, f"dangling: {entry.target.kind} {entry.target.key[:12]} {trouble}")
            else:
                target = (entry.target.kind, entry.target.key)
                stone = self.stones.get(target) or (None if target in self.published else self.collected.get(target))
                if stone is not None:
                    self._note(path, f"points at {stone.kind} {stone.key[:12]}, which was removed: {stone.reason}")

    def _answers(self) -> None:
        files = list(self.backend.list("answers"))
        named: set[str] = set()
        for path in files:
            parts = path.split("/")
            if len(parts) == 3 and parts[2] == "spec.json":
                self._partition(path, parts[1])
            elif len(parts) == 4 and path.endswith(".json"):
                named.update(self._segment(path))
        for path in self._unnamed(files, named):
            self._note(path, "a segment that was never published: left by an interrupted write")

    def _partition(self, path: str, answers_id: str) -> None:
        data = self.backend.get(path)
        self._count(len(data))
        try:
            good = fingerprint(json.loads(data))[:32] == answers_id
        except ValueError as error:
            self._problem(path, f"cannot be read as JSON: {error}")
            return
        if not good:
            self._problem(path, "changed: it does not hash to the name of its partition")

    def _segment(self, path: str) -> Iterator[str]:
        try:
            record = json.loads(self.backend.get(path))
            sha256, rows = str(record["sha256"]), int(record["rows"])
        except (ValueError, KeyError, TypeError) as error:
            self._problem(path, f"cannot be read as the record of a segment: {error}")
            return
        file = f"{path.rsplit('/', 1)[0]}/{sha256[:32]}.parquet"
        yield file
        self.found.segments += 1
        try:
            _, found = self._hash(file)
        except FileNotFoundError:
            self._problem(file, f"missing, although {path} names it")
            return
        if found != sha256:
            self._problem(file, f"changed: its hash is not the one in {path}")
            return
        held = self._rows(file)
        if held != rows:
            self._problem(path, f"says {rows} rows, {file} holds {held}")

    def _rows(self, path: str) -> int:
        import pyarrow.parquet as pq

        with self.backend.open(path) as file:
            return pq.read_metadata(file).num_rows

    def _unnamed(self, files: list[str], named: set[str]) -> Iterator[str]:
        for path in files:
            if path.endswith(".parquet") and path not in named:
                if self._hash(path)[1][:32] != path.rsplit("/", 1)[1].removesuffix(".parquet"):
                    self._problem(path, "changed: its bytes do not hash to its name")
                else:
                    yield path


def _recipe(manifest: Manifest) -> Recipe:
    return Recipe(
        kind=manifest.kind,
        stage=manifest.producer.stage,
        stage_version=manifest.producer.stage_version,
        inputs=manifest.inputs,
        params=manifest.params,
    )
