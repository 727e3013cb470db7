"""Verify the answers: every segment, every partition, and that no captions lack the answers they were read from."""

import json
from collections.abc import Iterable, Iterator

from schemas.canonical import fingerprint
from schemas.manifest import Manifest
from storage.backend import Backend
from vip.lineage.findings import Verification


def verify_answers(backend: Backend, found: Verification, captions: Iterable[tuple[str, Manifest]]) -> None:
    """Re-hash every published segment, and look for the segments that captions say they were read from.

    Args:
        backend: the root.
        found: gets what is found.
        captions: (path of the manifest, manifest) of every ``captions`` artifact that stands.
    """
    _Answers(backend, found).run(captions)


class _Answers:
    def __init__(self, backend: Backend, found: Verification) -> None:
        self.backend, self.found = backend, found
        self.described: set[str] = set()  # partitions that say what decided their requests
        self.published: dict[str, set[str]] = {}  # partition -> SHA-256 of its segments

    def run(self, captions: Iterable[tuple[str, Manifest]]) -> None:
        files = list(self.backend.list("answers"))
        named: set[str] = set()
        for path in files:
            parts = path.split("/")
            if len(parts) == 3 and parts[2] == "spec.json":
                self._partition(path, parts[1])
            elif len(parts) == 4 and path.endswith(".json"):
                named.update(self._segment(path, parts[1]))
        for path in self._unnamed(files, named):
            self.found.note(path, "a segment that was never published: left by an interrupted write")
        for answers_id in sorted(self.published.keys() - self.described):
            self.found.problem(f"answers/{answers_id}/spec.json", "missing, although segments stand beside it")
        for where, manifest in captions:
            published = self.published.get(str(manifest.stats.get("answers")), set())
            lost = [one for one in manifest.stats.get("segments", []) if one not in published]
            if lost:
                self.found.problem(where, f"was read from answers that are not published here: segment {lost[0][:32]}")

    def _partition(self, path: str, answers_id: str) -> None:
        self.described.add(answers_id)
        data = self.backend.get(path)
        self.found.count(len(data))
        try:
            good = fingerprint(json.loads(data))[:32] == answers_id
        except ValueError as error:
            self.found.problem(path, f"cannot be read as JSON: {error}")
            return
        if not good:
            self.found.problem(path, "changed: it does not hash to the name of its partition")

    def _segment(self, path: str, answers_id: str) -> Iterator[str]:
        try:
            record = json.loads(self.backend.get(path))
            sha256, rows = str(record["sha256"]), int(record["rows"])
        except (ValueError, KeyError, TypeError) as error:
            self.found.problem(path, f"cannot be read as the record of a segment: {error}")
            return
        file = f"{path.rsplit('/', 1)[0]}/{sha256[:32]}.parquet"
        yield file
        self.found.segments += 1
        self.published.setdefault(answers_id, set()).add(sha256)
        try:
            _, hashed = self.found.hash(self.backend, file)
        except FileNotFoundError:
            self.found.problem(file, f"missing, although {path} names it")
            return
        if hashed != sha256:
            self.found.problem(file, f"changed: its hash is not the one in {path}")
            return
        held = self._rows(file)
        if held != rows:
            self.found.problem(path, f"says {rows} rows, {file} holds {held}")

    def _rows(self, path: str) -> int:
        import pyarrow.parquet as pq

        with self.backend.open(path) as file:
            return pq.read_metadata(file).num_rows

    def _unnamed(self, files: list[str], named: set[str]) -> Iterator[str]:
        for path in files:
            if path.endswith(".parquet") and path not in named:
                _, hashed = self.found.hash(self.backend, path)
                if hashed[:32] != path.rsplit("/", 1)[1].removesuffix(".parquet"):
                    self.found.problem(path, "changed: its bytes do not hash to its name")
                else:
                    yield path
