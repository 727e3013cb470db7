"""Run result: the artifacts that a whole run ends with."""

from pydantic import BaseModel, ConfigDict

from schemas.manifest import ArtifactRef
from schemas.run_summary import RunSummary


class RunResult(BaseModel):
    """What ``retrain`` leaves.

    Attributes:
        captions: the caption set that was trained on.
        promotion: whether the checkpoint took the place of the promoted one, and why.
        requests: caption requests sent by this run; 0 where every answer was there.
        steps: training steps of this run; 0 where the checkpoint was there.
        summary: stages, times, what was made and what was reused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: ArtifactRef
    captions: ArtifactRef
    gate: ArtifactRef
    checkpoint: ArtifactRef
    evaluation: ArtifactRef
    promotion: ArtifactRef
    report: ArtifactRef
    requests: int
    steps: int
    summary: RunSummary
