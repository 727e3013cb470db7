"""Train: fine-tune an inpainting base with C-T-S control on captioned shards."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import broadcast

from schemas.errors import VipError
from schemas.train_config import TrainConfig
from schemas.training import LOSSES, ShardCaptions, TrainFailure, TrainJob, TrainProgress, TrainResult
from storage.tables import write_table
from vip.diffusion.batch import Shape
from vip.diffusion.batches import Batches, load_batches
from vip.diffusion.census import take_census
from vip.diffusion.encode import Encoder
from vip.diffusion.job import append_line, run_in_process
from vip.diffusion.learner import Learner
from vip.diffusion.load import load_pipeline, quiet
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.diffusion.state import States
from vip.diffusion.validate import paint_grid
from vip.machine import machine

OnProgress = Callable[[TrainProgress], None]


def train(
    config: TrainConfig,
    base_dir: Path | str,
    shards: Sequence[ShardCaptions],
    scratch: Path,
    out_dir: Path,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train and write ``pipeline/``, a diffusers pipeline with weights only, and ``losses.parquet`` to ``out_dir``.

    Runs in this process; several processes started by torchrun share the work. Where ``scratch`` holds a training state
    of the same config and data, the run goes on from it.

    Args:
        config: the run.
        base_dir: folder or hub id of a Stable Diffusion inpainting pipeline, or of one of ours, which is then trained
            on.
        shards: the data.
        scratch: folder for training states of this base.
        out_dir: folder for the pipeline; made where it is not there.
        on_progress: called in the first process, every ``log_every`` steps and after the last one.

    Raises:
        VipError: where config, base and data do not go together.
    """
    started = time.monotonic()
    _check_machine(config)
    accelerator = _accelerator(config, scratch)
    with _determinism(config.deterministic, config.seed):
        pipe = load_pipeline(str(base_dir), config)
        shape = shape_of(pipe, config)
        census = take_census(shards, config)
        encoder = Encoder(
            pipe.vae,
            pipe.tokenizer,
            pipe.text_encoder,
            accelerator.device,
            cache_mb=config.cache_mb,
            alone=config.encodes_alone,
        )
        learner = Learner(pipe, config, accelerator)
        states = States(Path(scratch) / f"{config.state_key()}-{census.fingerprint}")
        resumed = learner.restore(states.latest(at_most=config.steps))
        batches = Batches(
            shards, census, config, shape, learner.position, accelerator.process_index, accelerator.num_processes
        )
        stream = load_batches(batches, config.workers)
        clock = _Clock()
        while learner.step < config.steps:
            drawn = [next(stream) for _ in range(config.accumulation)]
            loss = learner.advance([(batch, encoder(batch)) for batch in drawn])
            clock.tick()
            if not torch.isfinite(torch.tensor(loss)):
                raise VipError(
                    f"the loss is {loss} at step {learner.step}",
                    "lower lr or fusion_lr, or set precision to bf16 or no",
                )
            last = learner.step == config.steps
            if accelerator.is_main_process and on_progress and (last or learner.step % config.log_every == 0):
                on_progress(learner.progress(clock.seconds))
            spent = not last and _spent(config, accelerator, started)
            if last or spent or learner.step % config.checkpoint_every == 0:
                learner.save(states, time.monotonic() - started)
            if spent:
                raise VipError(
                    f"training stopped: the budget of {config.hours:g} hours is spent at step {learner.step:,} of "
                    f"{config.steps:,}",
                    "its state is kept; run again to go on",
                )
            every = config.validation.every
            if config.validation.samples and (last or (every and learner.step % every == 0)):
                with learner.averaged():
                    paint_grid(pipe, shards, census, config, shape, accelerator, _grid_path(scratch, learner.step))
        result = _finish(learner, pipe, config, census, out_dir, resumed, started)
    accelerator.end_training()
    return result


def _spent(config: TrainConfig, accelerator: Accelerator, started: float) -> bool:
    """Whether the hours of this attempt are over; the first process decides for all, whose clocks may differ."""
    if config.hours is None:
        return False
    over = torch.tensor(float(time.monotonic() - started >= 3600 * config.hours), device=accelerator.device)
    return bool(broadcast(over))


def shape_of(pipe: VIPOutpaintPipeline, config: TrainConfig) -> Shape:
    """The sizes that batches need.

    Raises:
        VipError: where the view does not fit the VAE.
    """
    factor, view = pipe.vae_scale_factor, config.view
    if view.width % factor or view.height % factor:
        raise VipError(
            f"view {view.width}x{view.height} is not divisible by {factor}, the factor of this base's VAE",
            f"use {max(1, view.width // factor) * factor}x{max(1, view.height // factor) * factor}",
        )
    levels = pipe.control.config["levels"]
    channels, timesteps = pipe.vae.config["latent_channels"], pipe.scheduler.config["num_train_timesteps"]
    return Shape(channels, view.height // factor, view.width // factor, levels, timesteps)


def _check_machine(config: TrainConfig) -> None:
    """Refuse what this machine cannot do, before anything is loaded."""
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise VipError("precision fp16 needs a GPU", "set precision to bf16 or no")
    known = sorted(str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers())
    missing = [tracker for tracker in config.trackers if tracker not in known]
    if missing:
        raise VipError(f"tracker {missing[0]} is not installed", f"there are: {', '.join(known)}")


def _accelerator(config: TrainConfig, scratch: Path) -> Accelerator:
    # The state is a singleton that refuses another precision; an earlier run in this process must not decide ours.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=config.precision,
        log_with=list(config.trackers) or None,
        project_dir=str(Path(scratch) / "logs"),
        step_scheduler_with_optimizer=False,
    )
    if config.trackers:
        accelerator.init_trackers("vip", config={"config": config.model_dump_json()})
    return accelerator


@contextmanager
def _determinism(wanted: bool, seed: int) -> Iterator[None]:
    """Seed the global generators and refuse operations that do not repeat; puts the former setting back."""
    before = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.manual_seed(seed)
    # On a GPU some backward passes have no deterministic form; there the wish is a warning.
    torch.use_deterministic_algorithms(wanted, warn_only=torch.cuda.is_available())
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warns)


def _grid_path(scratch: Path, step: int) -> Path:
    return Path(scratch) / "validation" / f"step-{step:08d}.png"


def _finish(
    learner: Learner,
    pipe: VIPOutpaintPipeline,
    config: TrainConfig,
    census: Any,
    out_dir: Path,
    resumed: int,
    started: float,
) -> TrainResult:
    learner.use_averaged()
    rows = learner.losses
    if learner.accelerator.is_main_process:
        pipe.control.register_to_config(view=(config.view.width, config.view.height))
        with quiet():
            pipe.save_pretrained(str(Path(out_dir) / "pipeline"), safe_serialization=True)
        write_table(Path(out_dir) / "losses.parquet", rows, LOSSES)
    learner.accelerator.wait_for_everyone()
    tail = [row["loss"] for row in rows[-max(1, len(rows) // 10) :]]
    images = sum(census.counts)
    return TrainResult(
        steps=learner.step,
        resumed_from=resumed,
        samples=learner.position,
        images=images,
        pairs=census.pairs,
        missing_captions=census.missing,
        epochs=learner.position / images,
        final_loss=sum(tail) / len(tail),
        seconds=learner.seconds_before + time.monotonic() - started,
        a=learner.fusion(),
        trainable_parameters=learner.trainable_parameters,
        machine=machine(),
    )


class _Clock:
    """Seconds a step, over the steps since the last look."""

    def __init__(self) -> None:
        self._since, self._steps = time.monotonic(), 0

    def tick(self) -> None:
        self._steps += 1

    @property
    def seconds(self) -> float:
        now = time.monotonic()
        spent, steps = now - self._since, max(1, self._steps)
        self._since, self._steps = now, 0
        return spent / steps


def run_job(job: TrainJob) -> TrainResult:
    """Run a training here, writing its progress as JSON lines; the last line is the result, or why it failed."""
    rank, tell = int(os.environ.get("RANK", "0")), partial(append_line, job.progress)
    try:
        result = train(job.config, job.base_dir, job.shards, Path(job.scratch), Path(job.out_dir), tell)
    except Exception as error:
        line = " ".join(str(error).split())
        told = line if isinstance(error, VipError) else f"{type(error).__name__}: {line}"
        tell(TrainFailure(failure=told[:1000], rank=rank))
        raise
    if rank == 0:
        tell(result)
    return result


def main(arguments: list[str] | None = None) -> None:
    """``python -m vip.diffusion.train --job job.json``; exits with 1 and one line on stderr where it fails."""
    run_in_process(TrainJob, run_job, arguments)


if __name__ == "__main__":
    main()
