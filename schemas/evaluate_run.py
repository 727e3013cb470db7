"""Evaluate run: which checkpoint `vip evaluate` examines, on what."""

from pydantic import BaseModel, ConfigDict, Field

from schemas.evaluate_config import EvaluateConfig


class EvaluateRun(BaseModel):
    """One checkpoint in one exam.

    Attributes:
        name: becomes the ref ``evaluation/<name>``.
        checkpoint: ref, or unique prefix of a key.
        dataset: whose held-out images are continued.
        prompts: ``oracle`` and ``centre_only`` -> the caption set that is pinned for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]*$")
    checkpoint: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    prompts: dict[str, str] = {}
    evaluate: EvaluateConfig = EvaluateConfig()
