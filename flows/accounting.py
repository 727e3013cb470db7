"""Accounting: what a run made, what it found made, and how long each stage took."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from schemas.manifest import ArtifactRef, Manifest
from schemas.pricing import Price
from schemas.run_summary import RunSummary, StageSummary
from storage.store import ArtifactStore
from vip.captioning.ask_stats import AskStats

STAGE_OF = {
    "shard": "shard",
    "dataset": "shard",
    "captions": "caption",
    "caption_set": "caption",
    "gate": "gate",
    "model": "train",
    "checkpoint": "train",
    "samples": "evaluate",
    "features": "evaluate",
    "evaluation": "evaluate",
    "promotion": "promote",
}
"""Kind of artifact -> the stage of a run that makes it."""


class Account:
    """Times the stages of a run and, at its end, counts from the lineage what each of them made and found."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start

    def close(
        self,
        store: ArtifactStore,
        ends: Iterable[ArtifactRef],
        promotion: ArtifactRef | None,
        asked: Iterable[AskStats],
        price: Price,
    ) -> RunSummary:
        """The summary of a run.

        Args:
            ends: its last artifacts but the promotion.
            promotion: stands apart, because it was made from the promoted checkpoint as well, which is no work of ours.
            price: of what was ``asked``.
        """
        work = _Work(store.run_id)
        for one in chain(reachable(store, ends), [store.require(promotion)] if promotion else []):
            work.add(one)
        asked = list(asked)
        return RunSummary(
            stages=tuple(
                StageSummary(
                    name=stage,
                    seconds=round(seconds, 1),
                    made=work.made[stage],
                    reused=work.reused[stage],
                    note=_note(stage, work, asked),
                )
                for stage, seconds in self.seconds.items()
            ),
            facts=_facts(asked, price),
        )


def reachable(store: ArtifactStore, ends: Iterable[ArtifactRef]) -> Iterator[Manifest]:
    """Every artifact that ``ends`` were made from, themselves included, each once."""
    waiting, seen = list(ends), set()
    while waiting:
        ref = waiting.pop()
        if (ref.kind, ref.key) not in seen:
            seen.add((ref.kind, ref.key))
            manifest = store.require(ref)
            yield manifest
            waiting.extend(manifest.inputs.values())


class _Work:
    """What the artifacts of a run amount to. Of most there is one a shard, so that they are counted and not kept."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.made: Counter[str] = Counter()
        self.reused: Counter[str] = Counter()
        self.pictures = 0
        self.first: dict[str, Manifest] = {}

    def add(self, one: Manifest) -> None:
        """Count one artifact."""
        stage = STAGE_OF.get(one.kind, "")
        (self.made if self.is_made(one) else self.reused)[stage] += 1
        if one.kind == "samples" and self.is_made(one):
            self.pictures += one.stats["images"]
        if one.kind in ("dataset", "checkpoint", "promotion"):
            self.first.setdefault(one.kind, one)

    def is_made(self, one: Manifest) -> bool:
        """Whether this run made it."""
        return one.run.id == self._run_id


def _note(stage: str, work: _Work, asked: list[AskStats]) -> str:
    """One phrase on what a stage did in this run."""
    if stage == "shard":
        stats = work.first["dataset"].stats
        return f"{stats['samples']:,} images, {stats['rejected']:,} rejected"
    if stage == "caption":
        requests = sum(one.requests for one in asked)
        return f"{requests:,} requests" + (f", {_rate(asked):.0f} a second" if requests else "")
    if stage == "train":
        checkpoint = work.first["checkpoint"]
        steps = checkpoint.stats["steps"] - checkpoint.stats["resumed_from"] if work.is_made(checkpoint) else 0
        return f"{steps:,} steps"
    if stage == "evaluate":
        return f"{work.pictures:,} pictures"
    if stage == "promote":
        stats = work.first["promotion"].stats
        return ("promoted: " if stats["promoted"] else "refused: ") + stats["reasons"][0]
    return ""


def _rate(asked: list[AskStats]) -> float:
    seconds = sum(one.seconds for one in asked)
    return sum(one.requests for one in asked) / seconds if seconds else 0.0


def _facts(asked: list[AskStats], price: Price) -> dict[str, str]:
    if not any(one.requests for one in asked):
        return {}
    facts = {"captions a second": f"{_rate(asked):.0f}"}
    cost = sum(price.of(one.prompt_tokens, one.completion_tokens, one.seconds) for one in asked)
    return facts | ({"cost of captions": f"{cost:.4g}"} if cost else {})
