"""Estimate: what a plan will take, from rates that were measured and a price that the user states."""

import itertools
from dataclasses import dataclass

from schemas.pricing import Price
from storage.answers import Answers
from storage.store import ArtifactStore
from vip.captioning.plan import CaptionPlan

_SEGMENTS = 64
_BETWEEN_SEGMENTS = 5.0
_PAUSE = 30.0  # seconds without an answer; a slow engine may leave some


@dataclass(frozen=True)
class Estimate:
    """What a plan will take; None where nothing was measured yet.

    Attributes:
        requests: to ask.
        prompt_tokens, completion_tokens: over all requests.
        seconds: of asking, at the rate of the latest answers.
        cost: in the currency of the price.
        measured: what the rates come from.
    """

    requests: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    cost: float | None = None
    measured: str = "nothing measured yet"


@dataclass(frozen=True)
class _Rates:
    prompt: float
    completion: float
    per_second: float
    answers: int


def estimate(store: ArtifactStore, plan: CaptionPlan, price: Price | None = None) -> Estimate:
    """Requests, tokens, time and cost of a plan.

    Rates come from the latest answers of the same spec, else of the nearest earlier one.
    """
    if not plan.requests:
        return Estimate(0, 0, 0, 0.0, 0.0, "nothing to ask")
    price = price or Price()
    for answers_id, what in ((plan.spec.answers_id, "this spec"), (plan.earlier_answers, "the nearest earlier spec")):
        rates = _measure(Answers(store.backend, answers_id)) if answers_id else None
        if rates is None:
            continue
        prompt, completion = round(rates.prompt * plan.requests), round(rates.completion * plan.requests)
        seconds = plan.requests / rates.per_second
        return Estimate(
            plan.requests,
            prompt,
            completion,
            seconds,
            price.of(prompt, completion, seconds),
            f"the last {rates.answers:,} answers of {what}",
        )
    return Estimate(plan.requests)


def _measure(answers: Answers) -> _Rates | None:
    """Mean tokens over the latest segments, and answers a second over the time of which they hold every answer.

    A publication is cut into segments by shard: of the time in which the oldest one was filled, others may hold more.
    """
    prompts = completions = 0
    stamps: list[float] = []
    known_from = 0.0
    segments = answers.latest(_SEGMENTS)
    for segment in segments:
        table = answers.read(segment)
        prompts += sum(value or 0 for value in table.column("prompt_tokens").to_pylist())
        completions += sum(value or 0 for value in table.column("completion_tokens").to_pylist())
        answered = [stamp.timestamp() for stamp in table.column("answered_at").to_pylist()]
        known_from = max(answered) + _BETWEEN_SEGMENTS
        stamps += answered
    if len(stamps) < 2:
        return None
    whole = [stamp for stamp in stamps if stamp > known_from] if len(segments) == _SEGMENTS else stamps
    rate = _rate(sorted(whole if len(whole) > 1 else stamps))
    return _Rates(prompts / len(stamps), completions / len(stamps), rate, len(stamps))


def _rate(stamps: list[float]) -> float:
    """Answers a second; a pause between two runs is no part of it."""
    gaps = [after - before for before, after in itertools.pairwise(stamps)]
    work = [gap for gap in gaps if gap < _PAUSE] or gaps
    return len(work) / max(sum(work), 1e-3)
