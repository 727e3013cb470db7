"""TrainConfig: everything that decides a checkpoint, besides its data."""

from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.canonical import fingerprint
from schemas.region import View

Branches = Literal["cross_attention", "key_value", "transformer"]
MaskMode = Literal["area", "nearest"]
PromptStyle = Literal["labelled", "plain"]
Regime = Literal["sft", "glt"]
Trainable = Literal["fusion", "branches", "attention", "whole"]
MissingCaption = Literal["drop", "unconditional", "error"]

# What says how the work is done or watched, and cannot change the weights that come out; and where the base is found,
# for which its digest stands among the inputs. Training states leave out as well how long the run goes on.
_NOT_IN_PARAMS = {"hours", "workers", "checkpoint_every", "validation", "trackers", "log_every", "precompute"}
_NOT_IN_PARAMS |= {"hosts", "rendezvous", "base", "revision"}
_NOT_IN_STATE = _NOT_IN_PARAMS | {"steps", "cache_mb"}


class _Section(BaseModel):
    # Neither infinity nor NaN is a number that a key could hold.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ValidationSettings(_Section):
    """Pictures painted during training, for people to look at.

    Attributes:
        every: optimiser steps between two grids; 0 = only one at the end.
        samples: pictures in a grid; 0 = none at all.
        prompts: (centre, surrounding) texts to use in turn instead of the samples' own captions.
        inference_steps, guidance, seed: how they are sampled.
    """

    every: int = Field(default=0, ge=0)
    samples: int = Field(default=0, ge=0, le=64)
    prompts: tuple[tuple[str, str], ...] = ()
    inference_steps: int = Field(default=20, ge=1, le=1000)
    guidance: float = Field(default=3.0, ge=0.0)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _paints(self) -> "ValidationSettings":
        if not self.samples and (self.every or self.prompts):
            raise ValueError("validation paints no pictures without samples; set samples, 8 for example")
        return self


class TrainConfig(_Section):
    """One training run. Every field has a value that works on the nano base.

    Attributes:
        base: ``nano``, a folder, or a hub id of a Stable Diffusion inpainting pipeline.
        revision: of a hub id.
        branches: what C-T-S multiplies: ``cross_attention`` (the paper), ``key_value`` (cheapest), ``transformer`` (the
            released code).
        mask_mode: how the mask reaches each level: ``area`` average (soft) or ``nearest`` (hard), both centred.
        prompt_style: ``labelled`` hands the branches ``Center: ...`` and ``Surrounding: ...``; ``plain`` only the
            words.
        regime: ``sft``: one dataset, one kind of region; ``glt``: a weighted mixture of datasets and regions. Both are
            our reading of the paper, which names them without saying what they are.
        view: the captions of this view are trained on.
        regions: pattern of region ids (``centre-*``, ``sides-*``, ``brush-*``) -> weight in the draw. Empty: every
            captioned region alike. Of several patterns that fit a region, the one with the most characters that are no
            wildcard counts, whatever their order. Only regions that are captioned are ever drawn.
        datasets: dataset name -> weight (``glt``). Empty: every dataset by its number of images.
        trainable: ``fusion`` (only ``a``), ``branches`` (and the branches), ``attention`` (and the UNet's
            transformers), ``whole`` (and all of the UNet). The VAE and the text encoder are always frozen.
        steps: optimiser steps in all; a finished run can be prolonged.
        hours: that one attempt may train, by the clock; one that reaches them keeps its state and ends with an error,
            and the next one goes on. None = no cap.
        batch: samples a step, process and accumulation.
        accumulation: backward passes a step.
        lr, fusion_lr: learning rates of the weights and of ``a``, which starts at 0 and needs a larger one.
        schedule, warmup: learning-rate schedule of diffusers, and its warm-up in steps.
        weight_decay: of the weights; ``a`` has none.
        betas, epsilon: of AdamW.
        clip: largest norm of the gradient; 0 = none.
        dropout: share of samples that are trained without any text.
        half_dropout: share of the others of which one half, centre or surrounding, is left out.
        min_snr: gamma of min-SNR weighting; None = unweighted.
        kept_weight: weight in the loss of the latents that are kept, against 1 for those that are generated.
        prediction: what the UNet predicts; None = what the base's scheduler says.
        ema: decay of the averaged weights, which are what is saved; 0 = none.
        precision: ``no``, ``bf16`` or ``fp16`` (weights stay in float32).
        gradient_checkpointing: less memory for a third more compute.
        compile: torch.compile the UNet with its branches.
        deterministic: refuse operations that do not repeat bit for bit.
        seed: of everything that is drawn.
        missing_caption: what becomes of an image without a caption: ``drop``, ``unconditional`` (trained without text)
            or ``error``.
        precompute: ``latents``, ``embeddings`` or both: encode the pictures, or the texts, of every shard once and keep
            them as artifacts that later runs find; see :mod:`vip.diffusion.precompute`.
        cache_mb: memory for encoded pictures and texts that are not precomputed; 0 = encode each batch anew. With a
            cache every picture and text is encoded alone, so that what is cached does not depend on its neighbours.
        workers: processes that read and decode.
        processes: that train together, on all hosts; a step sees ``batch`` x ``accumulation`` samples of each.
        hosts: machines that the processes are on; the flow starts the share of its own and says what to start on the
            others.
        rendezvous: ``host:port`` at which the hosts meet, where there are several.
        checkpoint_every: optimiser steps between two training states.
        log_every: optimiser steps between two lines of progress.
        trackers: ``tensorboard``, or others that accelerate knows.
        validation: grids of pictures.
    """

    base: str = Field(default="nano", min_length=1)
    revision: str | None = None
    branches: Branches = "cross_attention"
    mask_mode: MaskMode = "area"
    prompt_style: PromptStyle = "labelled"
    regime: Regime = "sft"
    view: View = View(width=64, height=64)
    regions: dict[str, float] = {}
    datasets: dict[str, float] = {}
    trainable: Trainable = "branches"
    hours: float | None = Field(default=None, gt=0.0)
    steps: int = Field(default=300, ge=1)
    batch: int = Field(default=16, ge=1)
    accumulation: int = Field(default=1, ge=1)
    lr: float = Field(default=2e-4, gt=0.0)
    fusion_lr: float = Field(default=1e-2, gt=0.0)
    schedule: Literal["constant", "constant_with_warmup", "cosine", "linear"] = "constant_with_warmup"
    warmup: int = Field(default=10, ge=0)
    weight_decay: float = Field(default=1e-2, ge=0.0)
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0.0)
    clip: float = Field(default=1.0, ge=0.0)
    dropout: float = Field(default=0.1, ge=0.0, le=1.0)
    half_dropout: float = Field(default=0.1, ge=0.0, le=1.0)
    min_snr: float | None = Field(default=5.0, gt=0.0)
    kept_weight: float = Field(default=1.0, ge=0.0, le=1.0)
    prediction: Literal["epsilon", "v_prediction"] | None = None
    ema: float = Field(default=0.99, ge=0.0, lt=1.0)
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    compile: bool = False
    deterministic: bool = True
    seed: int = Field(default=0, ge=0, lt=2**31)
    missing_caption: MissingCaption = "drop"
    precompute: tuple[Literal["latents", "embeddings"], ...] = ()
    cache_mb: int = Field(default=512, ge=0)
    workers: int = Field(default=0, ge=0, le=64)
    processes: int = Field(default=1, ge=1, le=4096)
    hosts: int = Field(default=1, ge=1, le=512)
    rendezvous: str | None = Field(default=None, pattern=r"^[^\s:]+:[0-9]+$")
    checkpoint_every: int = Field(default=100, ge=1)
    log_every: int = Field(default=10, ge=1)
    trackers: tuple[str, ...] = ()
    validation: ValidationSettings = ValidationSettings()

    @field_validator("precision", mode="before")
    @classmethod
    def _no_is_a_word(cls, value: object) -> object:
        return "no" if value is False else value  # YAML reads a bare `no` as false

    @field_validator("regions", "datasets")
    @classmethod
    def _weights_are_positive(cls, value: dict[str, float]) -> dict[str, float]:
        wrong = [name for name, weight in value.items() if not 0 < weight < float("inf")]
        if wrong:
            raise ValueError(f"the weight of {wrong[0]} must be above 0; leave out what is not to be used")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainConfig":
        if self.regime == "sft" and len(self.regions) > 1:
            raise ValueError("regime sft trains on one kind of region; name one, or set regime: glt")
        if self.regime == "sft" and len(self.datasets) > 1:
            raise ValueError("regime sft trains on one dataset; name one, or set regime: glt")
        if self.processes % self.hosts:
            raise ValueError(f"{self.processes} processes cannot be shared evenly by {self.hosts} hosts")
        if self.hosts > 1 and self.rendezvous is None:
            raise ValueError("several hosts need a rendezvous, such as 10.0.0.7:29400, that all of them reach")
        if self.dropout == 1.0:
            raise ValueError("dropout 1 trains without any text; set it below 1 (0.1 is usual)")
        if self.schedule in ("constant_with_warmup", "cosine", "linear") and self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} leaves nothing of {self.steps} steps; make it smaller")
        if self.view.width % 4 or self.view.height % 4:
            raise ValueError(
                f"view {self.view.width}x{self.view.height} is not divisible by 4, and every VAE asks for 4 or 8; "
                f"use {self.view.width // 8 * 8 or 8}x{self.view.height // 8 * 8 or 8}"
            )
        return self

    def region_weight(self, region: str) -> float:
        """Weight of the region with this id: that of the pattern that says most of it, 0 where none matches."""
        if not self.regions:
            return 1.0
        # Not the first one: a key does not know in which order they were written.
        fitting = (pattern for pattern in self.regions if fnmatchcase(region, pattern))
        best = max(fitting, key=lambda pattern: (len(pattern) - sum(map(pattern.count, "*?[]")), pattern), default=None)
        return 0.0 if best is None else self.regions[best]

    @property
    def encodes_alone(self) -> bool:
        """Whether each picture and text is encoded by itself; in a batch its last bits depend on its neighbours."""
        return self.cache_mb > 0 or bool(self.precompute)

    def params(self) -> dict[str, Any]:
        """What goes into the key of the checkpoint beside the base and the data: all that can change its weights."""
        params = self.model_dump(mode="json", exclude=_NOT_IN_PARAMS | self._unsaid)
        # Only whether each picture and text is encoded alone changes weights; the default says that it is.
        return params | {"cache_mb": type(self).model_fields["cache_mb"].default if self.encodes_alone else 0}

    def state_key(self) -> str:
        """Names training states of one base that this run may go on from, whatever its number of steps.

        Learning-rate schedules that end (``cosine``, ``linear``) depend on the number of steps, so there it counts.
        """
        left_out = _NOT_IN_STATE - ({"steps"} if self.schedule in ("cosine", "linear") else set())
        values = self.model_dump(mode="json", exclude=left_out | self._unsaid)
        return fingerprint(values if self.encodes_alone else values | {"encode": "batch"})[:16]

    @property
    def _unsaid(self) -> set[str]:
        """One process is what a checkpoint had before there could be several, and keeps its key."""
        return {"processes"} if self.processes == 1 else set()
