"""Claim config: which ways of control are compared, and how."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.evaluate_config import EvaluateConfig
from schemas.train_config import TrainConfig

Arm = Literal[
    "base",
    "plain",
    "masked",
    "key_value",
    "cross_attention",
    "transformer",
    "mask_nearest",
    "a_slow",
    "a_fast",
    "no_dropout",
    "split",
    "glt",
    "glt_long",
]

ARMS: dict[str, str] = {
    "base": "the base as it is, total text",
    "plain": "plain fine-tune of the whole UNet, total text",
    "masked": "the base, its own attention masked by region, no training",
    "key_value": "C-T-S, keys and values only",
    "cross_attention": "C-T-S, whole cross-attention (the paper)",
    "transformer": "C-T-S, whole transformers (the released code)",
}
"""Arm -> what it is. All start from the same base and see the same data, captions and number of steps."""

ABLATIONS: dict[str, str] = {
    "mask_nearest": "cross_attention with hard masks",
    "a_slow": "cross_attention whose a learns at the rate of the weights",
    "a_fast": "cross_attention whose a learns five times as fast",
    "no_dropout": "cross_attention without caption dropout",
    "split": "cross_attention on captions whose halves were asked for apart",
    "glt": "cross_attention on a mixture of masks, as many steps",
    "glt_long": "glt for twice the steps, so that the exam's own mask is seen as often as by cross_attention",
}
"""Arm -> in what it differs from ``cross_attention``; each changes one thing."""

_MIXTURE = {"centre-*": 2.0, "sides-*": 1.0, "brush-*": 1.0}

CHANGES: dict[str, dict[str, Any]] = {
    "mask_nearest": {"mask_mode": "nearest"},
    "a_slow": {"fusion_lr": 2e-4},
    "a_fast": {"fusion_lr": 5e-2},
    "no_dropout": {"dropout": 0.0, "half_dropout": 0.0},
    "split": {},
    "glt": {"regime": "glt", "regions": _MIXTURE},
    "glt_long": {"regime": "glt", "regions": _MIXTURE},
}
"""Ablation -> settings of the training."""

TIMES: dict[str, int] = {"glt_long": 2}
"""Ablation -> how many times the steps of the others; 1 where nothing stands."""

KNOWN: dict[str, str] = {**ARMS, **ABLATIONS}

TRAINED = ("plain", "key_value", "cross_attention", "transformer", *ABLATIONS)


class ClaimConfig(BaseModel):
    """One comparison.

    Attributes:
        arms: what is compared, each with ``against``: those of ``ARMS``, or ablations.
        against: the arm that the others are compared with.
        spec: the captions that every arm but ``split`` trains on and is examined by.
        seeds: training runs of every trained arm, with seeds 0, 1, ...
        train: what all trained arms share; ``branches``, ``seed`` and, for the plain arm, ``fusion_lr`` are set by arm.
        evaluate: the exam; the prompts of its first setting are what is obeyed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    arms: tuple[Arm, ...] = Field(default=tuple(ARMS), min_length=2)  # type: ignore[arg-type]
    against: Arm = "plain"
    spec: str = "nano-joint"
    seeds: int = Field(default=3, ge=1, le=32)
    train: TrainConfig = TrainConfig(steps=300, trainable="whole", regions={"centre-0.5": 1.0})
    evaluate: EvaluateConfig = EvaluateConfig(settings=("oracle",), images=256, probe="nano")

    @model_validator(mode="after")
    def _comparable(self) -> "ClaimConfig":
        if len(set(self.arms)) != len(self.arms):
            raise ValueError("an arm is named twice")
        if self.against not in self.arms:
            raise ValueError(
                f"the arms are compared with {self.against}, which is not among them; add it to the arms, or give "
                f"--against {self.arms[0]}"
            )
        return self
