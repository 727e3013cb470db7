"""Budget: what one captioning run may cost at most."""

from pydantic import BaseModel, ConfigDict, Field


class Budget(BaseModel):
    """Caps of one run; None is no cap. A run that reaches one stops cleanly: what was answered is kept.

    Attributes:
        requests: sent at most, retries of the same request not counted.
        tokens: read and written by the model. What is in flight when the cap is reached is still answered and kept.
        hours: of captioning, by the clock.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0.0)

    def reached(self, requests: int, tokens: int, seconds: float) -> str:
        """Which cap is reached, in words; empty where none is."""
        if self.requests is not None and requests >= self.requests:
            return f"the budget of {self.requests:,} requests is spent"
        if self.tokens is not None and tokens >= self.tokens:
            return f"the budget of {self.tokens:,} tokens is spent"
        if self.hours is not None and seconds >= 3600 * self.hours:
            return f"the budget of {self.hours:g} hours is spent"
        return ""

    def shares(self, parts: int, requests: int, tokens: int, seconds: float) -> list["Budget"]:
        """What is left of it, divided between ``parts`` that spend it side by side.

        They are fewer where not all would get some, and none where nothing is left.

        Args:
            requests, tokens, seconds: spent before.
        """
        left = {"requests": _less(self.requests, requests), "tokens": _less(self.tokens, tokens)}
        parts = min([parts, *(count for count in left.values() if count is not None)])
        hours = None if self.hours is None else max(self.hours - seconds / 3600, 1e-9)
        return [
            Budget(hours=hours, **{name: _share(count, number, parts) for name, count in left.items()})
            for number in range(parts)
        ]


def _less(cap: int | None, spent: int) -> int | None:
    return None if cap is None else max(0, cap - spent)


def _share(count: int | None, number: int, parts: int) -> int | None:
    return None if count is None else count // parts + (number < count % parts)
