"""Retrain config: one file that says the whole run, from a source of images to a report."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.approval import ApprovalRules
from schemas.bank import Bank
from schemas.budget import Budget
from schemas.endpoint import refuse_secrets
from schemas.endpoints import Endpoints
from schemas.evaluate_config import EvaluateConfig
from schemas.gate import GateThresholds
from schemas.pricing import Price
from schemas.promotion import PromotionRules
from schemas.region import alike
from schemas.runner import Runner
from schemas.sharding import ShardSettings
from schemas.train_config import TrainConfig


class CaptionConfig(BaseModel):
    """Who captions, and how.

    Attributes:
        spec: built-in name or YAML file; its captions are trained on and are the oracle prompts of the exam.
        imagined: spec of the centre-only prompts of the exam, which see nothing but the kept part.
        model: ``nano``, a folder or a hub id that answers instead of the specs' own.
        endpoints: servers that run already; none by any of the three: a vLLM of our own is started and stopped.
        endpoints_file: file that names them, read again as it changes.
        discovery: URL that names them, asked every few seconds.
        in_flight: requests to one server at a time, at most, from each process that asks; None: as many as it can use.
        gate: what the captions must fulfil before anything is trained on them.
        budget: what one run may ask at most; a run that reaches it ends with an error, and the next one goes on.
        price: what answers cost; the run's summary says what it spent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: str = "nano-joint"
    imagined: str | None = "nano-imagine"
    model: str | None = None
    endpoints: tuple[Annotated[str, AfterValidator(refuse_secrets)], ...] = ()
    endpoints_file: str | None = None
    discovery: Annotated[str, AfterValidator(refuse_secrets)] | None = None
    in_flight: int | None = Field(default=None, ge=1)
    gate: GateThresholds = GateThresholds()
    budget: Budget = Budget()
    price: Price = Price()

    @property
    def engines(self) -> Endpoints:
        """Where engines answer, by whichever of the three ways."""
        return Endpoints(urls=self.endpoints, file=self.endpoints_file, discovery=self.discovery)

    @model_validator(mode="after")
    def _named_in_one_way(self) -> "CaptionConfig":
        _ = self.engines
        return self


class RetrainConfig(BaseModel):
    """shard -> caption -> gate -> train -> evaluate -> promote -> report.

    Attributes:
        source: folder, tars or Parquet with images.
        bank: the (view, region) pairs that are captioned, trained on and examined.
        promote: what a checkpoint must show to take the place of the promoted one.
        approval: where given, a person must agree as well: the run waits before the promotion.
        runner: what carries out the tasks: threads, Dask or Ray.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1)
    shard: ShardSettings = ShardSettings()
    bank: Bank = Bank()
    caption: CaptionConfig = CaptionConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    promote: PromotionRules = PromotionRules()
    approval: ApprovalRules | None = None
    runner: Runner = Runner()

    @model_validator(mode="after")
    def _one_geometry(self) -> "RetrainConfig":
        view, region = self.evaluate.geometry
        if self.train.view != self.bank.view:
            raise ValueError(f"train.view is {self.train.view.id}, but {self.bank.view.id} is captioned; make them one")
        if view != self.bank.view or not any(alike(captioned, region) for captioned in self.bank.regions):
            raise ValueError(f"the exam's {view.id} {region.id} is not in the bank; add it to bank.regions")
        if self.promote.setting not in self.evaluate.settings:
            raise ValueError(f"promote.setting '{self.promote.setting}' is not among evaluate.settings; add it there")
        if "centre_only" in self.evaluate.needs and self.caption.imagined is None:
            raise ValueError("the exam asks for centre_only prompts; name a spec as caption.imagined")
        return self

    @property
    def specs(self) -> tuple[str, ...]:
        """The specs to caption with: first the one that is trained on."""
        imagined = (self.caption.imagined,) if "centre_only" in self.evaluate.needs else ()
        return (self.caption.spec, *(spec for spec in imagined if spec is not None))
