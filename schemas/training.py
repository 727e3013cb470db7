"""What a training run reads, reports and leaves, besides its weights."""

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from schemas.manifest import ArtifactRef
from schemas.train_config import TrainConfig

LOSSES = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),  # optimiser steps, from 1
        pa.field("loss", pa.float64(), nullable=False),  # mean over the samples of the step, weighted as trained
        pa.field("lr", pa.float64(), nullable=False),
        pa.field("fusion_lr", pa.float64(), nullable=False),
        pa.field("grad_norm", pa.float64(), nullable=False),  # before clipping
        pa.field("samples", pa.int64(), nullable=False),  # seen so far, all processes
        pa.field("a", pa.map_(pa.string(), pa.float64()), nullable=False),  # UNet block -> fusion weight
    ]
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardCaptions(_Record):
    """One shard and its captions, as local paths or URLs.

    Attributes:
        tar: ``samples.tar``.
        samples: the shard's samples table (Parquet, ``schemas.tables.SAMPLES``).
        captions: its captions (Parquet, ``schemas.tables.CAPTIONS``).
        dataset: name of the dataset, for weights in a mixture.
        masks: hash of a mask's file -> where it lies, of all that the captions were asked with.
        latents, embeddings: local folders with what was precomputed of them, see :mod:`vip.diffusion.precompute`.
    """

    tar: str
    samples: str
    captions: str
    dataset: str = "images"
    masks: dict[str, str] = {}
    latents: str | None = None
    embeddings: str | None = None


class TrainJob(_Record):
    """A training run for a process of its own: ``python -m vip.diffusion.train --job job.json``.

    Attributes:
        config: the run.
        base_dir: folder or hub id of the base pipeline.
        shards: the data.
        scratch: folder for training states of this base; kept between attempts.
        out_dir: folder for what comes out.
        progress: file that gets one JSON line (:class:`TrainProgress`) at a time; the result is its last line.
    """

    config: TrainConfig
    base_dir: str
    shards: tuple[ShardCaptions, ...] = Field(min_length=1)
    scratch: str
    out_dir: str
    progress: str | None = None


class PrecomputeJob(_Record):
    """Encoding in a process of its own: ``python -m vip.diffusion.precompute --job job.json``.

    Attributes:
        root, run_id: the store, and the run that it publishes for.
        base: the base as the user calls it.
        base_dir: its local folder.
        config: the run that will read what comes out.
        shards: (shard, its captions).
        progress: file that gets one JSON line (:class:`PrecomputeProgress`) at a time.
    """

    root: str
    run_id: str
    base: str
    base_dir: str
    config: TrainConfig
    shards: tuple[tuple[ArtifactRef, ArtifactRef], ...] = Field(min_length=1)
    progress: str


class PrecomputeProgress(_Record):
    """``done`` of ``total`` artifacts are there, and ``rows`` of the next one."""

    done: int
    total: int
    rows: int


class TrainProgress(_Record):
    """Where a run stands after ``step`` of ``steps`` optimiser steps."""

    step: int
    steps: int
    loss: float
    lr: float
    samples: int
    seconds_per_step: float
    a: dict[str, float]


class TrainResult(_Record):
    """What a run did.

    Attributes:
        steps: optimiser steps that the weights have seen.
        resumed_from: step of the training state it went on from; 0 = from the base.
        samples: samples seen, all processes.
        images: usable images of all datasets.
        pairs: captioned (image, region) pairs in use.
        missing_captions: images of the training split without a usable caption.
        epochs: ``samples / images``.
        final_loss: mean over the last tenth of the steps.
        seconds: of this attempt, and of the earlier ones whose steps it went on from.
        a: UNet block -> fusion weight as saved.
        trainable_parameters: numbers that were trained.
        machine: what the first process computed on, see :func:`vip.machine.machine`.
    """

    steps: int
    resumed_from: int
    samples: int
    images: int
    pairs: int
    missing_captions: int
    epochs: float
    final_loss: float
    seconds: float
    a: dict[str, float]
    trainable_parameters: int
    machine: dict[str, str | int] = {}


class TrainFailure(_Record):
    """Why process ``rank`` ended, in one line."""

    failure: str
    rank: int


class TrainPlan(_Record):
    """What a run will take, known before it starts.

    Attributes:
        base, branches: as configured.
        unet_parameters, branch_parameters, frozen_parameters: of the UNet, of C-T-S, of VAE and text encoder.
        trainable_parameters: numbers that are trained.
        memory_bytes: weights, gradients, optimiser and averages in float32; activations come on top.
        forward_flops: one sample through the UNet with its branches.
        latents, levels: height and width of the latents, and of the feature maps at every resolution.
        steps, samples: optimiser steps, and samples of all processes.
        images, pairs, missing_captions, regions, epochs: of the data; None or empty where none were given.
    """

    base: str
    branches: str
    unet_parameters: int
    branch_parameters: int
    frozen_parameters: int
    trainable_parameters: int
    memory_bytes: int
    forward_flops: int
    latents: tuple[int, int]
    levels: tuple[tuple[int, int], ...]
    steps: int
    samples: int
    images: int | None = None
    pairs: int | None = None
    missing_captions: int | None = None
    regions: dict[str, int] = {}
    epochs: float | None = None
