"""Answers: append-only immutable segments of what a model said, found again by shard bits.

Layout, with put-if-absent only::

    answers/<answers_id>/spec.json                         what decided these requests
    answers/<answers_id>/<bits>/<sha256[:32]>.parquet      one segment (schema ANSWERS)
    answers/<answers_id>/<bits>/<number>.json              its publication, written last

``<bits>`` is the prefix of the sample keys in the segment, ``all`` where it is empty. A segment belongs to a shard
when one prefix begins the other, so that a dataset with another number of shards finds every answer. The first
published answer to a request wins: segments are ordered by (number, length of prefix, prefix), no clock is asked. A
number is taken once a prefix (put-if-absent), and is above every number that overlapping prefixes held before.
"""

import heapq
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.canonical import canonical_json, sha256_hex
from schemas.errors import VipError
from schemas.tables import ANSWERS
from storage.backend import Backend
from storage.tables import read_table, write_table

_EMPTY_PREFIX = "all"
MOST_BITS = 20  # that a shard is named by, see schemas.sharding


@dataclass(frozen=True)
class Segment:
    """One published segment: its place in the order and the hash of its file."""

    answers_id: str
    bits: str
    number: int
    sha256: str
    rows: int

    @property
    def order(self) -> tuple[int, int, str]:
        """Sorts segments in the order on which every reader agrees."""
        return self.number, len(self.bits), self.bits

    @property
    def path(self) -> str:
        """Where its Parquet file lies, relative to the root."""
        return f"{_folder(self.answers_id, self.bits)}/{self.sha256[:32]}.parquet"


class Answers:
    """The answers of one partition (one model, template, sampling and preprocessing) in one root."""

    def __init__(self, backend: Backend, answers_id: str) -> None:
        self.backend, self.answers_id = backend, answers_id

    def describe(self, spec: Mapping[str, Any]) -> None:
        """Record what decides the requests of this partition; the first record stands."""
        self.backend.put_if_absent(f"answers/{self.answers_id}/spec.json", canonical_json(dict(spec)))

    def publish(self, bits: str, rows: list[dict[str, Any]], scratch: Path) -> Segment | None:
        """Publish rows as one segment.

        Args:
            bits: what the sample keys of all rows begin with.
            rows: dictionaries of the schema ANSWERS.
            scratch: folder for the file before it is put in place.

        Returns:
            The segment, or None for no rows.
        """
        if not rows:
            return None
        scratch.mkdir(parents=True, exist_ok=True)
        file = scratch / f"segment-{uuid.uuid4().hex}.parquet"
        try:
            write_table(file, rows, ANSWERS)
            digest = sha256_hex(file.read_bytes())
            folder = _folder(self.answers_id, bits)
            self.backend.put_if_absent(f"{folder}/{digest[:32]}.parquet", file)
        finally:
            file.unlink(missing_ok=True)
        record, number = canonical_json({"sha256": digest, "rows": len(rows)}), 0
        while True:
            number = 1 + max(number, *(segment for _, segment in self._numbers(bits)), 0)
            path = f"{folder}/{number:08d}.json"
            # A store may have taken the record although its answer was lost on the way: then it stands there already.
            if self.backend.put_if_absent(path, record) or self.backend.get(path) == record:
                return Segment(self.answers_id, bits, number, digest, len(rows))
            # Another writer took the number between our look and our write: look again, and above it.

    def segments(self, bits: str) -> list[Segment]:
        """Every segment that can hold an answer for a shard of these bits, first published first."""
        return self._segments(self._numbers(bits))

    def segments_of(self, image_sha256: str) -> list[Segment]:
        """Every segment that can hold an answer for one image."""
        return self.segments(key_bits(image_sha256, MOST_BITS))

    def latest(self, count: int) -> list[Segment]:
        """The segments that were published last by the clock of the store, the last one first.

        Numbers do not tell: each prefix has its own. The partition is listed once, and only these records are read.
        """
        dated = self.backend.list_dated(f"answers/{self.answers_id}")
        records = ((written, found) for path, written in dated if (found := _numbered(path)) is not None)
        return [self._segment(*found) for _, found in heapq.nlargest(count, records)]

    def _segments(self, numbers: Iterable[tuple[str, int]]) -> list[Segment]:
        return sorted((self._segment(*numbered) for numbered in numbers), key=lambda segment: segment.order)

    def _segment(self, prefix: str, number: int) -> Segment:
        path = f"{_folder(self.answers_id, prefix)}/{number:08d}.json"
        try:
            record = json.loads(self.backend.get(path))
            return Segment(self.answers_id, prefix, number, record["sha256"], record["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise VipError(f"{path} cannot be read: {error}", "run `vip audit verify`") from error

    def read(self, segment: Segment) -> pa.Table:
        """The rows of one segment.

        Raises:
            VipError: where its file is gone or changed.
        """
        try:
            data = self.backend.get(segment.path)
        except FileNotFoundError as error:
            raise VipError(f"{segment.path} is missing although it was published", "run `vip audit verify`") from error
        if sha256_hex(data) != segment.sha256:
            raise VipError(f"{segment.path} is not what was published", "run `vip audit verify`")
        return read_table(data, ANSWERS)

    def look_up(
        self,
        bits: str,
        columns: Iterable[str] = ("text", "finish_reason", "error"),
        segments: list[Segment] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """The winning answer to every request of a shard.

        Args:
            bits: the prefix of the shard.
            columns: what to hold of each answer.
            segments: those of the shard, where they are at hand.

        Returns:
            request_id -> {column: value}; memory in proportion to the answers of one shard.
        """
        names = list(columns)
        found: dict[str, dict[str, Any]] = {}
        for segment in self.segments(bits) if segments is None else segments:
            table = self.read(segment)
            keep = len(segment.bits) < len(bits)
            identifiers = table.column("request_id").to_pylist()
            keys = table.column("image_sha256").to_pylist() if keep else []
            held = [table.column(name).to_pylist() for name in names]
            for place, (identifier, *values) in enumerate(zip(identifiers, *held, strict=True)):
                if keep and key_bits(keys[place], len(bits)) != bits:
                    continue
                if identifier not in found:
                    found[identifier] = dict(zip(names, values, strict=True))
        return found

    def any(self) -> bool:
        """Whether anything was ever published here."""
        return any(True for _ in self._numbers(""))

    def _numbers(self, bits: str) -> Iterator[tuple[str, int]]:
        """(prefix, number) of every segment whose prefix begins ``bits`` or is begun by it.

        No other prefix is listed: a partition has as many as a dataset has shards. So a look is one request for each
        of the bits, and one.
        """
        for length in range(len(bits)):
            yield from self._numbers_below(f"{_folder(self.answers_id, bits[:length])}/")
        yield from self._numbers_below(f"answers/{self.answers_id}/{bits}")

    def _numbers_below(self, start: str) -> Iterator[tuple[str, int]]:
        paths = self.backend.list_starting(start)
        yield from (found for path in paths if (found := _numbered(path)) is not None)


def partitions(backend: Backend) -> dict[str, dict[str, Any]]:
    """Every partition of answers in a root: answers_id -> what decided its requests."""
    found = {}
    for path in backend.list("answers"):
        if path.endswith("/spec.json"):
            found[path.split("/")[1]] = json.loads(backend.get(path))
    return found


def key_bits(image_sha256: str, bits: int) -> str:
    """The first ``bits`` bits of a sample key, as a string of 0 and 1."""
    digits = (bits + 3) // 4
    return f"{int(image_sha256[:digits], 16):0{digits * 4}b}"[:bits] if bits else ""


def _numbered(path: str) -> tuple[str, int] | None:
    """Prefix and number of the record of a segment; None for any other object."""
    parts = path.split("/")
    if len(parts) != 4 or not parts[3].endswith(".json"):
        return None
    return "" if parts[2] == _EMPTY_PREFIX else parts[2], int(parts[3].removesuffix(".json"))


def _folder(answers_id: str, bits: str) -> str:
    return f"answers/{answers_id}/{bits or _EMPTY_PREFIX}"
