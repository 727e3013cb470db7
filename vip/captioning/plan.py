"""Plan: what is up to date, what is missing, before anything is asked."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from schemas.bank import Bank
from schemas.manifest import ArtifactRef, Manifest
from schemas.spec import CaptionSpec
from storage.answers import Answers
from storage.journal import recover
from storage.store import ArtifactStore
from vip.captioning.judge import Judge, Needs
from vip.captioning.project import captions_recipe, make_judge
from vip.captioning.request import Request
from vip.captioning.rows import Row, read_samples, shard_rows


@dataclass(frozen=True, slots=True)
class ShardWork:
    """The state of one shard whose captions are not made yet.

    Attributes:
        prefix: key bits of the shard.
        shard: the shard.
        rows: rows it has (or those within the plan's limit).
        answered: rows whose answers are all there, so that only reading them is left.
        requests: requests still to ask, as far as they are known now.
    """

    prefix: str
    shard: ArtifactRef
    rows: int
    answered: int
    requests: int


@dataclass(frozen=True)
class CaptionPlan:
    """What a captioning run would do. Memory in proportion to shards."""

    spec: CaptionSpec
    bank: Bank
    round: int
    bits: int
    limit: int | None
    done: dict[str, Manifest]
    work: list[ShardWork]
    recovered: int = 0
    shards: dict[str, ArtifactRef] = field(default_factory=dict)

    @property
    def up_to_date(self) -> int:
        """Rows that stand in finished captions or need only be read from answers that are there."""
        finished = sum(manifest.stats["captions"] + manifest.stats["rejected"] for manifest in self.done.values())
        return finished + sum(work.answered for work in self.work)

    @property
    def missing(self) -> int:
        """Rows for which something must be asked."""
        return sum(work.rows - work.answered for work in self.work)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.up_to_date + self.missing

    @property
    def requests(self) -> int:
        """Requests to ask."""
        return sum(work.requests for work in self.work)


def dataset_shards(dataset: Manifest) -> dict[str, ArtifactRef]:
    """Prefix -> shard of a dataset, by ascending prefix."""
    found = {role.removeprefix("shard/"): ref for role, ref in dataset.inputs.items() if role.startswith("shard/")}
    return dict(sorted(found.items()))


def plan_captions(
    store: ArtifactStore,
    dataset: Manifest,
    spec: CaptionSpec,
    bank: Bank,
    limit: int | None = None,
    round: int = 0,
    scratch: Path | None = None,
) -> CaptionPlan:
    """Find out what is left to do. Asks no server and opens no image; a finished shard costs one look-up.

    Args:
        spec: resolved.
        limit: consider only the first that many rows (keys are hashes, so they are a random sample).
        round: how many times rejected rows were retried.
        scratch: folder of the journals; what a killed run left there is published first.
    """
    recovered = recover(store.backend, scratch, spec.answers_id) if scratch is not None else 0
    shards = dataset_shards(dataset)
    done: dict[str, Manifest] = {}
    work: list[ShardWork] = []
    judge: Judge | None = None
    left = limit
    for prefix, ref in shards.items():
        if left is not None and left <= 0:
            break
        found = store.find(captions_recipe(ref, spec, bank, round)) if limit is None else None
        if found is not None:
            done[prefix] = found
            continue
        judge = judge or make_judge(spec, round)
        state = _inspect(store, prefix, ref, judge, bank, left)
        work.append(state)
        left = left - state.rows if left is not None else None
    return CaptionPlan(spec, bank, round, int(dataset.params["bits"]), limit, done, work, recovered, shards)


def _inspect(
    store: ArtifactStore, prefix: str, ref: ArtifactRef, judge: Judge, bank: Bank, limit: int | None
) -> ShardWork:
    rows = answered = 0
    asked: set[str] = set()
    for _, needs in open_rows(store, prefix, ref, judge, bank, limit):
        rows += 1
        answered += not needs
        asked.update(request.request_id for request in needs)
    return ShardWork(prefix, ref, rows, answered, len(asked))


def open_rows(
    store: ArtifactStore, prefix: str, ref: ArtifactRef, judge: Judge, bank: Bank, limit: int | None = None
) -> Iterator[tuple[Row, list[Request]]]:
    """Every row of a shard with the requests it still needs; none where it is decided."""
    shard = store.require(ref)
    answers = Answers(store.backend, judge.spec.answers_id).look_up(prefix)
    for number, row in enumerate(shard_rows(read_samples(store, shard), bank)):
        if limit is not None and number >= limit:
            return
        decided = judge.decide(row, answers)
        yield row, decided.requests if isinstance(decided, Needs) else []
