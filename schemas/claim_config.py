"""Claim config: which ways of control are compared, and how."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.evaluate_config import EvaluateConfig
from schemas.train_config import TrainConfig

Arm = Literal["base", "plain", "masked", "key_value", "cross_attention", "transformer"]

ARMS: dict[str, str] = {
    "base": "the base as it is, total text",
    "plain": "plain fine-tune of the whole UNet, total text",
    "masked": "the base, its own attention masked by region, no training",
    "key_value": "C-T-S, keys and values only",
    "cross_attention": "C-T-S, whole cross-attention (the paper)",
    "transformer": "C-T-S, whole transformers (the released code)",
}
"""Arm -> what it is. All start from the same base and see the same data, captions and number of steps."""

TRAINED = ("plain", "key_value", "cross_attention", "transformer")


class ClaimConfig(BaseModel):
    """One comparison.

    Attributes:
        arms: what is compared, each with ``against``.
        against: the arm that the others are compared with.
        seeds: training runs of every trained arm, with seeds 0, 1, ...
        train: what all trained arms share; ``branches``, ``seed`` and, for the plain arm, ``fusion_lr`` are set by arm.
        evaluate: the exam; the prompts of its first setting are what is obeyed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    arms: tuple[Arm, ...] = Field(default=tuple(ARMS), min_length=2)  # type: ignore[arg-type]
    against: Arm = "plain"
    seeds: int = Field(default=3, ge=1, le=32)
    train: TrainConfig = TrainConfig(steps=600, trainable="whole")
    evaluate: EvaluateConfig = EvaluateConfig(settings=("oracle", "control:swapped"), images=256, probe="nano")
