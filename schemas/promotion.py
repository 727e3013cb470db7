"""Promotion: what a new checkpoint must show before it takes the place of the promoted one."""

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

COMPARABLE = (
    "kid",
    "psnr_known_unpasted",
    "ssim_known_unpasted",
    "seam_error",
    "obedience",
    "contamination",
)
"""Metrics that can be compared in pairs of images; from a Frechet distance alone nothing can be concluded."""


class PromotionRules(BaseModel):
    """When a checkpoint is promoted.

    Attributes:
        metrics: on each of them the new checkpoint must be ``better`` or ``not worse`` than the promoted one.
        setting: of the exam.
        margins: metric -> how much worse still counts as not worse, in the metric's unit; what is not named keeps the
            margin of ``vip.evaluation.compare.MARGINS``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    metrics: tuple[str, ...] = Field(default=("kid",), min_length=1)
    setting: str = "oracle"
    margins: dict[str, float] = {}

    @field_validator("metrics")
    @classmethod
    def _comparable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in COMPARABLE:
                raise ValueError(f"promotion by {name!r} is not possible; choose of {', '.join(COMPARABLE)}")
        return value

    @model_validator(mode="after")
    def _margins_are_used(self) -> "PromotionRules":
        for name, margin in self.margins.items():
            if name not in self.metrics:
                raise ValueError(f"a margin for {name!r} is stated, but it is not among the metrics")
            if margin < 0:
                raise ValueError(f"the margin of {name!r} is {margin}; it must be 0 or more")
        return self
