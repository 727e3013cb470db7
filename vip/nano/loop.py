"""The one training loop of the nano family: seeded by the step, resumable at any moment, bit-identical when resumed."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

log = logging.getLogger(__name__)

Loss = Callable[[int], tuple[torch.Tensor, dict[str, float]]]
"""Step number -> (loss to differentiate, figures to log)."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast.

    Attributes:
        steps: optimiser steps in all.
        learning_rate: the highest one, after ``warmup`` steps.
        decay: share of the steps at the end over which the rate falls linearly to a hundredth.
        ema: decay of the moving average of the weights that is kept as the result; 0 keeps the last weights.
        seed: of weights, noise and every other draw.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    decay: float = 0.3
    ema: float = 0.995
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate at ``step``."""
        rising = min(1.0, (step + 1) / self.warmup)
        left = (self.steps - step) / max(1.0, self.steps * self.decay)
        return self.learning_rate * rising * min(1.0, max(0.01, left))


def prepare(threads: int) -> None:
    """Make torch repeatable: fixed threads, deterministic kernels, denormals flushed."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling memory that is about to be written costs 4% of a step and makes nothing more repeatable.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_flush_denormal(True)


def seed_step(seed: int, step: int) -> None:
    """Seed torch for one step, so that no generator has to be saved."""
    torch.manual_seed(seed * 1_000_003 + step)


class Training:
    """Weights, their moving average, the optimiser and the curve, kept in one folder.

    Args:
        model: trained in place.
        recipe: how long and how fast.
        folder: scratch; ``state.safetensors`` and ``curve.jsonl`` lie here.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, folder: Path) -> None:
        self.model, self.recipe, self.folder = model, recipe, folder
        self.named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        parameters = [p for _, p in self.named]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, foreach=True
        )
        self.average = [p.detach().clone() for p in parameters]
        self.step = 0
        self.curve: list[dict[str, float]] = []
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.safetensors").exists():
            self._load()

    def run(self, loss: Loss, *, until: int | None = None, save_every: int = 50, log_every: int = 50) -> None:
        """Train up to step ``until`` (default: to the end), saving as it goes."""
        stop = self.recipe.steps if until is None else min(until, self.recipe.steps)
        self.model.train()
        parameters = [p for _, p in self.named]
        sums: dict[str, float] = {}
        began, count = time.monotonic(), 0
        while self.step < stop:
            seed_step(self.recipe.seed, self.step)
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.step)
            value, figures = loss(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
            self.optimizer.step()
            self.step += 1
            self._follow(parameters)
            for name, figure in {"loss": float(value.detach()), **figures}.items():
                sums[name] = sums.get(name, 0.0) + figure
            count += 1
            if self.step % log_every == 0 or self.step == stop:
                self.curve.append({"step": self.step, **{k: round(v / count, 6) for k, v in sums.items()}})
                pace = (time.monotonic() - began) / count
                log.info("%s %.3f s/step", self.curve[-1], pace)
                began, sums, count = time.monotonic(), {}, 0
            if self.step % save_every == 0 or self.step == stop:
                self._save()

    def use_average(self) -> None:
        """Put the moving average into the model: the result of the training."""
        with torch.no_grad():
            for (_, p), a in zip(self.named, self.average, strict=True):
                p.copy_(a)

    def _follow(self, parameters: list[nn.Parameter]) -> None:
        # A young average forgets faster, so that it never carries the random start along.
        keep = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in parameters], 1 - keep)

    def _save(self) -> None:
        tensors: dict[str, torch.Tensor] = {}
        for (name, p), a in zip(self.named, self.average, strict=True):
            tensors[f"weight/{name}"] = p.detach().contiguous()
            tensors[f"average/{name}"] = a.contiguous()
            state = self.optimizer.state.get(p, {})
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if key in state:
                    tensors[f"{key}/{name}"] = state[key].contiguous()
        partial = self.folder / "state.partial"
        save_file(tensors, partial, metadata={"step": str(self.step), "curve": json.dumps(self.curve)})
        partial.replace(self.folder / "state.safetensors")
        lines = "".join(json.dumps(point) + "\n" for point in self.curve)
        (self.folder / "curve.jsonl").write_text(lines)

    def _load(self) -> None:
        with safe_open(self.folder / "state.safetensors", "pt") as file, torch.no_grad():
            meta = file.metadata()
            self.step, self.curve = int(meta["step"]), json.loads(meta["curve"])
            known = set(file.keys())
            for (name, p), a in zip(self.named, self.average, strict=True):
                p.copy_(file.get_tensor(f"weight/{name}"))
                a.copy_(file.get_tensor(f"average/{name}"))
                keys = ("exp_avg", "exp_avg_sq", "step")
                if f"exp_avg/{name}" in known:
                    self.optimizer.state[p] = {key: file.get_tensor(f"{key}/{name}") for key in keys}
        log.info("resumed at step %d", self.step)
