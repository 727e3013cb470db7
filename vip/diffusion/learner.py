"""Learner: the trainable half of a run: model, optimiser, schedule, averages and where it stands."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn

from schemas.train_config import TrainConfig
from schemas.training import TrainProgress
from vip.diffusion.batch import Batch
from vip.diffusion.encode import Encoded
from vip.diffusion.loss import diffusion_loss, noise_weights, target_of
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.diffusion.state import State, States, capture_rng, pack_optimizer, restore_rng, unpack_optimizer


class Learner:
    """One training run in one process.

    Attributes:
        step: optimiser steps done.
        position: samples drawn by all processes.
        losses: one row a step, see ``schemas.training.LOSSES``.
        seconds_before: that earlier attempts took to come to the step where this one began.
        accelerator: of the run.
    """

    def __init__(self, pipe: VIPOutpaintPipeline, config: TrainConfig, accelerator: Accelerator) -> None:
        self.accelerator, self._config = accelerator, config
        self.step, self.position = 0, 0
        self.losses: list[dict[str, Any]] = []
        self.seconds_before = 0.0
        self._control = pipe.control
        self._schedule = DDPMScheduler.from_config(pipe.scheduler.config)
        self._prediction = self._schedule.config["prediction_type"]
        model = pipe.controlled.to(accelerator.device)
        model.train()
        choose_trainable(model, config.trainable)
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        self._plain = model
        self._named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
        self._names: dict[torch.Tensor, str] = {value: name for name, value in self._named}
        fusion = {id(value) for _, value in pipe.control.fusion()}
        weights = [value for _, value in self._named if id(value) not in fusion]
        scalars = [value for _, value in self._named if id(value) in fusion]
        # ``a`` starts at 0: it has to move before a branch gets any gradient, and decay would pull it back.
        groups: list[dict[str, Any]] = [{"params": scalars, "lr": config.fusion_lr, "weight_decay": 0.0}]
        if weights:
            groups.append({"params": weights, "lr": config.lr, "weight_decay": config.weight_decay})
        optimizer = torch.optim.AdamW(groups, betas=config.betas, eps=config.epsilon)
        # Built after the branches exist, over everything that is trained.
        trained = [value for _, value in self._named]
        self._ema = EMAModel(trained, decay=config.ema, foreach=True) if config.ema else None
        self._rates = get_scheduler(
            config.schedule, optimizer, num_warmup_steps=config.warmup, num_training_steps=config.steps
        )
        self._model, self._optimizer = accelerator.prepare(model, optimizer)
        if config.compile:
            self._model = torch.compile(self._model)

    @property
    def trainable_parameters(self) -> int:
        """Numbers that are trained."""
        return sum(value.numel() for _, value in self._named)

    def fusion(self) -> dict[str, float]:
        """The present ``a`` of every block."""
        return {path: float(value.detach()) for path, value in self._control.fusion()}

    def advance(self, batches: list[tuple[Batch, Encoded]]) -> float:
        """One optimiser step over the given micro-batches; returns the mean loss over all processes."""
        config, accelerator = self._config, self.accelerator
        total = torch.zeros((), device=accelerator.device)
        for place, (batch, encoded) in enumerate(batches):
            last = place == len(batches) - 1
            with nullcontext() if last else accelerator.no_sync(self._model):
                loss = self.loss(batch, encoded)
                accelerator.backward(loss / len(batches))
            total += loss.detach() / len(batches)
        norm = accelerator.clip_grad_norm_([value for _, value in self._named], config.clip or float("inf"))
        self._optimizer.step()
        self._optimizer.zero_grad()
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._rates.step()
        if self._ema is not None:
            self._ema.step([value for _, value in self._named])
        mean = float(accelerator.reduce(total, "mean"))
        self.step += 1
        self.position += config.batch * accelerator.num_processes * len(batches)
        row = {
            "step": self.step,
            "loss": mean,
            "lr": rates[-1] if len(rates) > 1 else 0.0,
            "fusion_lr": rates[0],
            "grad_norm": float(norm),
            "samples": self.position,
            "a": self.fusion(),
        }
        self.losses.append(row)
        accelerator.log(
            {key: row[key] for key in ("loss", "lr", "fusion_lr", "grad_norm")}
            | {f"a/{path}": value for path, value in row["a"].items()},
            step=self.step,
        )
        return mean

    def loss(self, batch: Batch, encoded: Encoded) -> torch.Tensor:
        """The loss of one micro-batch."""
        device = self.accelerator.device
        noise, timesteps = batch.noise[:, 0].to(device), batch.timesteps.to(device)
        noisy = self._schedule.add_noise(encoded.latents, noise, timesteps)
        sample = torch.cat([noisy, encoded.condition], dim=1)
        texts = (encoded.total, encoded.center, encoded.surrounding)
        with self.accelerator.autocast():
            predicted = self._model(sample, timesteps, *texts, encoded.levels)
        return diffusion_loss(
            predicted,
            target_of(self._schedule, encoded.latents, noise, timesteps, self._prediction),
            noise_weights(self._schedule.alphas_cumprod, timesteps, self._config.min_snr, self._prediction),
            encoded.condition[:, :1],
            self._config.kept_weight,
        )

    def progress(self, seconds_per_step: float) -> TrainProgress:
        """Where the run stands."""
        row = self.losses[-1]
        return TrainProgress(
            step=self.step,
            steps=self._config.steps,
            loss=row["loss"],
            lr=row["lr"],
            samples=self.position,
            seconds_per_step=seconds_per_step,
            a=row["a"],
        )

    def save(self, states: States, seconds: float) -> None:
        """Write a training state; only the first process writes, all draws being keyed by position.

        Args:
            states: where to.
            seconds: of this attempt until now.
        """
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            tensors, rng = capture_rng()
            tensors |= {f"weight.{name}": value for name, value in self._named}
            tensors |= pack_optimizer(self._optimizer.optimizer, self._names)
            if self._ema is not None:
                shadows = zip(self._named, self._ema.shadow_params, strict=True)
                tensors |= {f"average.{name}": value for (name, _), value in shadows}
            scaler = self.accelerator.scaler
            values = {
                "rng": rng,
                "rates": {key: value for key, value in self._rates.state_dict().items() if key in _RATE_KEYS},
                "averaged_steps": self._ema.optimization_step if self._ema is not None else 0,
                "scaler": scaler.state_dict() if scaler is not None else None,
                "losses": self.losses,
                "seconds": self.seconds_before + seconds,
            }
            states.save(State(self.step, self.position, tensors, values))
        self.accelerator.wait_for_everyone()

    def restore(self, state: State | None) -> int:
        """Go on from ``state``; returns its step, 0 without one."""
        if state is None:
            return 0
        with torch.no_grad():
            for name, value in self._named:
                value.copy_(state.tensors[f"weight.{name}"])
        unpack_optimizer(self._optimizer.optimizer, self._named, state.tensors)
        if self._ema is not None:
            self._ema.shadow_params = [state.tensors[f"average.{name}"].to(value.device) for name, value in self._named]
            self._ema.optimization_step = state.values["averaged_steps"]
        # The lambdas are functions, rebuilt from the config; torch asks for a place for each of them.
        self._rates.load_state_dict(state.values["rates"] | {"lr_lambdas": [None] * len(self._rates.lr_lambdas)})
        for group, rate in zip(self._optimizer.param_groups, self._rates.get_last_lr(), strict=True):
            group["lr"] = rate
        if self.accelerator.scaler is not None and state.values["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state.values["scaler"])
        restore_rng(state.tensors, state.values["rng"])
        self.step, self.position = state.step, state.position
        self.losses = list(state.values["losses"])
        self.seconds_before = state.values.get("seconds", 0.0)
        return state.step

    def use_averaged(self) -> None:
        """Replace the weights by their averages, for good."""
        self._plain.eval()
        if self._ema is not None:
            self._ema.copy_to([value for _, value in self._named])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with averaged weights and in eval mode, for as long as the block lasts."""
        parameters = [value for _, value in self._named]
        if self._ema is not None:
            self._ema.store(parameters)
            self._ema.copy_to(parameters)
        self._plain.eval()
        try:
            yield
        finally:
            self._plain.train()
            if self._ema is not None:
                self._ema.restore(parameters)


_RATE_KEYS = {"last_epoch", "_step_count", "_last_lr", "base_lrs", "_is_initial"}


def choose_trainable(model: nn.Module, what: str) -> None:
    """Freeze all but what ``TrainConfig.trainable`` names."""
    for name, value in model.named_parameters():
        part, _, rest = name.partition(".")
        if part == "control":
            value.requires_grad_(what != "fusion" or name.endswith(".a"))
        else:
            value.requires_grad_(what == "whole" or (what == "attention" and ".attentions." in rest))
