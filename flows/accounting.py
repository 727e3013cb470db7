"""Accounting: what a run made, what it found made, and how long each stage took."""

import contextlib
import time
from collections.abc import Iterable, Iterator

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
        reached = [*reachable(store, ends), *([store.require(promotion)] if promotion else [])]
        asked = list(asked)
        return RunSummary(
            stages=tuple(
                StageSummary(
                    name=stage,
                    seconds=round(seconds, 1),
                    made=sum(_made(store, one) for one in reached if STAGE_OF.get(one.kind) == stage),
                    reused=sum(not _made(store, one) for one in reached if STAGE_OF.get(one.kind) == stage),
                    note=_note(store, stage, reached, asked),
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


def _made(store: ArtifactStore, manifest: Manifest) -> bool:
    return manifest.run.id == store.run_id


def _note(store: ArtifactStore, stage: str, reached: list[Manifest], asked: list[AskStats]) -> str:
    """One phrase on what a stage did in this run."""
    if stage == "shard":
        stats = next(one.stats for one in reached if one.kind == "dataset")
        return f"{stats['samples']:,} images, {stats['rejected']:,} rejected"
    if stage == "caption":
        requests = sum(one.requests for one in asked)
        return f"{requests:,} requests" + (f", {_rate(asked):.0f} a second" if requests else "")
    if stage == "train":
        checkpoint = next(one for one in reached if one.kind == "checkpoint")
        steps = checkpoint.stats["steps"] - checkpoint.stats["resumed_from"] if _made(store, checkpoint) else 0
        return f"{steps:,} steps"
    if stage == "evaluate":
        images = sum(one.stats["images"] for one in reached if one.kind == "samples" and _made(store, one))
        return f"{images:,} pictures"
    if stage == "promote":
        made = next(one for one in reached if one.kind == "promotion")
        return ("promoted: " if made.stats["promoted"] else "refused: ") + made.stats["reasons"][0]
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
