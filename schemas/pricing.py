"""Price: what answers cost, as the user states it."""

from pydantic import BaseModel, ConfigDict, Field


class Price(BaseModel):
    """Cost of a model, by tokens, by time, or both; in any one currency.

    Attributes:
        per_million_prompt, per_million_completion: for a million tokens.
        per_hour: for an hour of the server, as with a rented GPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_million_prompt: float = Field(default=0.0, ge=0.0)
    per_million_completion: float = Field(default=0.0, ge=0.0)
    per_hour: float = Field(default=0.0, ge=0.0)

    def of(self, prompt_tokens: int, completion_tokens: int, seconds: float) -> float:
        """The cost of that many tokens in that many seconds."""
        tokens = prompt_tokens * self.per_million_prompt + completion_tokens * self.per_million_completion
        return tokens / 1e6 + seconds / 3600 * self.per_hour
