"""Plan: what is up to date, missing or stale, before anything is asked."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from schemas.bank import Bank
from schemas.manifest import ArtifactRef, Manifest
from schemas.spec import CaptionSpec
from schemas.tables import CAPTION_REJECTS, CAPTIONS
from storage.answers import Answers
from storage.journal import recover
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.captioning.judge import Judge, Needs
from vip.captioning.project import captions_recipe, make_judge
from vip.captioning.request import Request
from vip.captioning.rows import Row, read_samples, shard_rows
from vip.captioning.stale import StaleRows, nearest_earlier
from vip.sharding.pool import find_all

_LOOKED_INTO = 8
"""Shards that are opened to tell whether a caption set is of an earlier version of a dataset."""


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
    """What a captioning run would do. Memory in proportion to shards.

    Attributes:
        round: how many times rejected rows were retried.
        bits: of the dataset's shards.
        limit: rows that are considered; all where None.
        noise: rows are drawn again to measure noise; nothing becomes a caption.
        done: prefix -> rows in its finished captions, rejected ones among them.
        work: the other shards.
        causes: of the rows to ask, how many were captioned before by what differs in that; "" for never.
        earlier: the caption set that the causes compare with.
        recovered: answers found in the journals of killed runs.
        shards: prefix -> shard.
    """

    spec: CaptionSpec
    bank: Bank
    round: int
    bits: int
    limit: int | None
    noise: bool
    done: dict[str, int]
    work: list[ShardWork]
    causes: dict[str, int] = field(default_factory=dict)
    earlier: Manifest | None = None
    recovered: int = 0
    shards: dict[str, ArtifactRef] = field(default_factory=dict)

    @property
    def up_to_date(self) -> int:
        """Rows that stand in finished captions or need only be read from answers that are there."""
        return sum(self.done.values()) + sum(work.answered for work in self.work)

    @property
    def to_ask(self) -> int:
        """Rows for which something must be asked: missing and stale ones."""
        return sum(work.rows - work.answered for work in self.work)

    @property
    def missing(self) -> int:
        """Rows that were never captioned."""
        return self.to_ask - self.stale

    @property
    def stale(self) -> int:
        """Rows that were captioned before, by what has changed since; ``causes`` says what."""
        return sum(rows for cause, rows in self.causes.items() if cause)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.up_to_date + self.to_ask

    @property
    def requests(self) -> int:
        """Requests to ask."""
        return sum(work.requests for work in self.work)

    @property
    def earlier_answers(self) -> str | None:
        """The partition of answers of the nearest earlier caption set."""
        return self.earlier.stats.get("answers") if self.earlier else None


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
    noise: bool = False,
) -> CaptionPlan:
    """Find out what is left to do. Asks no server and opens no image; a finished shard costs one look-up.

    Args:
        spec: resolved.
        limit: consider only the first that many rows (keys are hashes, so they are a random sample).
        round: how many times rejected rows were retried; see :func:`next_round`.
        scratch: folder of the journals; what a killed run left there is published first.
        noise: draw the rows again to measure how often the model disagrees with itself; give a limit.
    """
    recovered = recover(store.backend, scratch, spec.answers_id) if scratch is not None else 0
    shards = dataset_shards(dataset)
    done: dict[str, int] = {}
    work: list[ShardWork] = []
    causes: Counter[str] = Counter()
    judge: Judge | None = None
    stale: StaleRows | None = None
    earlier = None
    left = limit
    whole = limit is None and not noise
    standing = find_captions(store, dataset, spec, bank, round) if whole else None
    for prefix, ref in shards.items():
        if left is not None and left <= 0:
            break
        found = next(standing) if standing is not None else None
        if found is not None:
            done[prefix] = found.stats["captions"] + found.stats["rejected"]
            continue
        if judge is None or stale is None:
            judge = make_judge(spec, round, noise)
            earlier = nearest_earlier(store, dataset, spec, bank)
            stale = StaleRows(store, dataset, earlier)
        state, images = _inspect(store, prefix, ref, judge, bank, left)
        work.append(state)
        if images and not noise:
            causes.update(dict(_sum(stale.causes(ref, prefix, images))))
        left = left - state.rows if left is not None else None
    return CaptionPlan(
        spec=spec,
        bank=bank,
        round=round,
        bits=int(dataset.params["bits"]),
        limit=limit,
        noise=noise,
        done=done,
        work=work,
        causes={cause: causes[cause] for cause in sorted(causes)},
        earlier=earlier.caption_set if earlier else None,
        recovered=recovered,
        shards=shards,
    )


def find_captions(
    store: ArtifactStore, dataset: Manifest, spec: CaptionSpec, bank: Bank, round: int
) -> Iterator[Manifest | None]:
    """The captions of each shard of a dataset, by ascending prefix; None where they are not made yet."""
    shards = dataset_shards(dataset).values()
    return find_all(store, (captions_recipe(shard, spec, bank, round) for shard in shards))


def current_round(store: ArtifactStore, dataset: Manifest, spec: CaptionSpec, bank: Bank) -> int:
    """How many times the rejected rows of a dataset were retried, in whatever version of it; else 0.

    It is the highest round of a caption set by the same spec and bank that holds some of its images: what later draws
    have won stays won when a dataset grows, and its new rows may be drawn as often.
    """
    round = 0
    for made in store.list("caption_set"):
        ours = (made.params["spec_id"], made.params["bank"]) == (spec.spec_id, bank.params)
        if ours and made.params["round"] > round and _has_images_of(store, made, dataset, spec, bank):
            round = made.params["round"]
    return round


def _has_images_of(
    store: ArtifactStore, caption_set: Manifest, dataset: Manifest, spec: CaptionSpec, bank: Bank
) -> bool:
    """Whether a caption set holds images of a dataset: a whole shard, else some in one of the first shards."""
    shards, keys = dataset_shards(dataset), {ref.key for ref in caption_set.inputs.values()}
    if any(captions_recipe(ref, spec, bank, caption_set.params["round"]).key in keys for ref in shards.values()):
        return True
    # A few new images change every shard of a small dataset, and keep nearly all of what is in it.
    for prefix, ref in islice(shards.items(), _LOOKED_INTO):
        images = {sample.image_sha256 for sample in read_samples(store, store.require(ref))}
        for role, made in caption_set.inputs.items():
            bits = role.removeprefix("captions/")
            if bits.startswith(prefix) or prefix.startswith(bits):
                captions = store.require(made)
                for name, schema in (("captions.parquet", CAPTIONS), ("rejects.parquet", CAPTION_REJECTS)):
                    rows = read_table(store.read(captions, name), schema, ["image_sha256"])
                    if not images.isdisjoint(rows.column("image_sha256").to_pylist()):
                        return True
    return False


def next_round(store: ArtifactStore, dataset: Manifest, spec: CaptionSpec, bank: Bank) -> int:
    """The round that retries what is rejected now: a new draw for those rows alone, and a new caption set.

    It is the present round where nothing is rejected, so that there is nothing to retry.
    """
    round = current_round(store, dataset, spec, bank)
    rejected = 0
    for made in find_captions(store, dataset, spec, bank, round):
        if made is None:
            return round
        rejected += made.stats["rejected"]
    return round + 1 if rejected else round


def _sum(causes: Iterator[tuple[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for cause, rows in causes:
        total[cause] += rows
    return total


def _inspect(
    store: ArtifactStore, prefix: str, ref: ArtifactRef, judge: Judge, bank: Bank, limit: int | None
) -> tuple[ShardWork, Counter[str]]:
    """The state of a shard, and for each image the number of its rows to ask."""
    rows = answered = 0
    asked: set[str] = set()
    images: Counter[str] = Counter()
    for row, needs in open_rows(store, prefix, ref, judge, bank, limit):
        rows += 1
        if needs:
            images[row.sample.image_sha256] += 1
            asked.update(request.request_id for request in needs)
        else:
            answered += 1
    return ShardWork(prefix, ref, rows, answered, len(asked)), images


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
