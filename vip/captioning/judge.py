"""Judge: from the answers of one row to its caption, its typed reject, or the request that is still to be asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.prompt import total_prompt
from schemas.spec import CaptionSpec, Part
from vip.captioning.leakage import overlap, restates
from vip.captioning.parse import Halves, Reason, Reject, read_answer
from vip.captioning.request import Request, RequestBuilder
from vip.captioning.rows import Row
from vip.captioning.tokens import TokenCounter

NOISE_DRAW = 1000
"""Draws from here on measure how often a model disagrees with itself; no caption is read from them."""

Answered = Mapping[str, Mapping[str, Any]]
"""request_id -> an answer with text, finish_reason and error."""


@dataclass(frozen=True, slots=True)
class Caption:
    """A valid caption and the answers it was read from."""

    centre: str
    surrounding: str
    tokens_centre: int
    tokens_surrounding: int
    tokens_total: int
    cut: str
    leak: list[str]
    requests: list[Request]


@dataclass(frozen=True, slots=True)
class Rejected:
    """No caption, why, and the answers that say so."""

    reject: Reject
    requests: list[Request]


@dataclass(frozen=True, slots=True)
class Needs:
    """Requests without an answer."""

    requests: list[Request]


@dataclass
class _Cursor:
    """Where the questions about one part stand: which draw, and whether it was asked to be shorter."""

    part: Part
    draw: int
    shorter: bool = False

    def advance(self, spec: CaptionSpec, reason: Reason, last_draw: int) -> bool:
        """Move to the next question about this part; False where none is left."""
        if reason is Reason.OVER_LONG and spec.budget.over == "reask" and not self.shorter:
            self.shorter = True
            return True
        if self.draw < last_draw and reason is not Reason.UNDECODABLE_IMAGE:
            self.draw, self.shorter = self.draw + 1, False
            return True
        return False


class Judge:
    """Decides rows of one spec.

    Args:
        spec: resolved.
        counter: of the target model.
        round: how many times rejected rows were retried; draws 0..round are considered, the first good one wins.
        noise: consider one further draw instead, which only measures noise.
    """

    def __init__(self, spec: CaptionSpec, counter: TokenCounter, round: int = 0, noise: bool = False) -> None:
        self.spec, self.counter = spec, counter
        self.first, self.round = (NOISE_DRAW, NOISE_DRAW) if noise else (0, round)
        self.builder = RequestBuilder(spec)

    def decide(self, row: Row, answers: Answered) -> Caption | Rejected | Needs:
        """The state of one row; a pure function of its answers."""
        cursors = [_Cursor(part, self.first) for part in self.spec.parts]
        while True:
            chosen: list[tuple[Request, Halves | Reject]] = []
            missing: list[Request] = []
            for cursor in cursors:
                found = self._settle(row, cursor, answers)
                if isinstance(found, Request):
                    missing.append(found)
                else:
                    chosen.append(found)
            if missing:
                return Needs(missing)
            requests = [request for request, _ in chosen]
            failed = [outcome for _, outcome in chosen if isinstance(outcome, Reject)]
            if failed:
                return Rejected(failed[0], requests)
            caption = self._join(requests, [outcome for _, outcome in chosen if isinstance(outcome, Halves)])
            problem = self._problem(caption)
            if problem is None:
                return caption
            # The halves are fine one by one but not together: the last part is asked again, where that is allowed.
            if not cursors[-1].advance(self.spec, problem.reason, self.round):
                return Rejected(problem, requests)

    def read(self, request: Request, answer: Mapping[str, Any]) -> Halves | Reject:
        """What one answer says."""
        found = read_answer(self.spec, request.part, answer["text"], answer["finish_reason"], answer["error"])
        if isinstance(found, Reject) or self.spec.budget.over == "keep":
            return found
        budget = self.spec.budget
        for name, half, limit in (
            ("centre", found.centre, budget.centre),
            ("surrounding", found.surrounding, budget.surrounding),
        ):
            # A token is at least one byte, so that short texts need no count.
            if half is not None and len(half.encode()) + 2 > limit and self.counter.count(half) > limit:
                return Reject(Reason.OVER_LONG, f"{name} has {self.counter.count(half)} tokens, its budget is {limit}")
        return found

    def _settle(self, row: Row, cursor: _Cursor, answers: Answered) -> Request | tuple[Request, Halves | Reject]:
        """The first good answer to a part from the cursor on, else its last rejected one, else what to ask."""
        while True:
            request = self.builder.request(row, cursor.part, cursor.draw, cursor.shorter)
            answer = answers.get(request.request_id)
            if answer is None:
                return request
            found = self.read(request, answer)
            if isinstance(found, Halves) or not cursor.advance(self.spec, found.reason, self.round):
                return request, found

    def _join(self, requests: list[Request], halves: list[Halves]) -> Caption:
        centre = next(half.centre for half in halves if half.centre is not None)
        surrounding = next(half.surrounding for half in halves if half.surrounding is not None)
        tokens_total, cut = self.counter.count_and_cut(total_prompt(centre, surrounding))
        return Caption(
            centre=centre,
            surrounding=surrounding,
            tokens_centre=self.counter.count(centre),
            tokens_surrounding=self.counter.count(surrounding),
            tokens_total=tokens_total,
            cut=cut,
            leak=overlap(centre, surrounding),
            requests=requests,
        )

    def _problem(self, caption: Caption) -> Reject | None:
        budget = self.spec.budget
        if budget.over != "keep" and caption.tokens_total > budget.total:
            detail = f"total has {caption.tokens_total} tokens, its budget is {budget.total}"
            return Reject(Reason.OVER_LONG, detail)
        share = self.spec.leak_share
        if share is not None and restates(caption.centre, caption.surrounding, share):
            return Reject(Reason.LEAK, f"both halves say {', '.join(caption.leak)}")
        return None
