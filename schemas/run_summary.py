"""Run summary: what a run did, stage by stage, for its report."""

from pydantic import BaseModel, ConfigDict, Field


class StageSummary(BaseModel):
    """One stage of a run.

    Attributes:
        name: as the user knows it, such as ``caption``.
        seconds: wall time in this run.
        made, reused: artifacts.
        note: one short phrase, such as ``412 captions, 61 a second``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    seconds: float = Field(ge=0)
    made: int = Field(default=0, ge=0)
    reused: int = Field(default=0, ge=0)
    note: str = ""


class RunSummary(BaseModel):
    """What a run did.

    Attributes:
        stages: in the order in which they ran.
        facts: label -> value for the head of the page, such as ``captions a second`` -> ``61``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stages: tuple[StageSummary, ...] = ()
    facts: dict[str, str] = {}
