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
