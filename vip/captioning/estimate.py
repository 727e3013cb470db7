"""Estimate: what a plan will take, from rates that were measured and a price that the user states."""

import itertools
from dataclasses import dataclass

from schemas.pricing import Price
from storage.answers import Answers
from storage.store import ArtifactStore
from vip.captioning.plan import CaptionPlan

_SEGMENTS = 8


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
    price = price or Price()
    for answers_id, what in ((plan.spec.answers_id, "this spec"), (plan.earlier_answers, "the nearest earlier spec")):
        rates = _measure(Answers(store.backend, answers_id), plan) if answers_id else None
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
    return Estimate(plan.requests, 0, 0, 0.0, 0.0, "nothing to ask") if not plan.requests else Estimate(plan.requests)


def _measure(answers: Answers, plan: CaptionPlan) -> _Rates | None:
    """Mean tokens, and answers a second, over the latest segments of the partition."""
    prompts = completions = counted = 0
    stamps: list[float] = []
    for segment in answers.segments("")[-_SEGMENTS:]:
        table = answers.read(segment)
        prompts += sum(value or 0 for value in table.column("prompt_tokens").to_pylist())
        completions += sum(value or 0 for value in table.column("completion_tokens").to_pylist())
        counted += table.num_rows
        stamps += [stamp.timestamp() for stamp in table.column("answered_at").to_pylist()]
    if counted < 2:
        return None
    # A pause between two runs is no part of the rate: only gaps under 5 s count as work.
    stamps.sort()
    gaps = [after - before for before, after in itertools.pairwise(stamps)]
    working = sum(gap for gap in gaps if gap < 5.0)
    return _Rates(prompts / counted, completions / counted, len(gaps) / max(working, 1e-3), counted)
