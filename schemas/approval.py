"""Approval: a person's word on a checkpoint that may be promoted."""

from pydantic import BaseModel, ConfigDict, Field


class ApprovalRules(BaseModel):
    """A person is asked before a checkpoint is promoted.

    Attributes:
        hours: how long the run waits for an answer; without one it fails, and the next run asks again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hours: float = Field(default=24.0, gt=0.0, le=24.0 * 30)


class Approval(BaseModel):
    """The answer; it is typed in by a person, and kept with the decision.

    Attributes:
        approve: whether the checkpoint is to be promoted.
        by: who says so.
        note: why.
    """

    model_config = ConfigDict(extra="forbid")

    approve: bool
    by: str = Field(min_length=1)
    note: str = ""

    @property
    def sentence(self) -> str:
        """Such as ``approved by Ada: sharper skies``."""
        told = f"{'approved' if self.approve else 'refused'} by {self.by}"
        return f"{told}: {self.note}" if self.note else told
