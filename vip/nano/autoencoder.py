"""The AutoencoderKL of the nano base: 64 px RGB to 4 x 16 x 16 latents."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from vip.nano.loop import Recipe, Training, seed_step
from vip.nano.scene import TRAINING_SEEDS
from vip.nano.world import draw_seeds

BATCH = 8
FIRST_SEED = TRAINING_SEEDS
KL_WEIGHT = 2e-5


def build(seed: int = 0) -> Any:
    """A fresh AutoencoderKL, weights from ``seed``."""
    seed_step(seed, -1)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures, np.float32)).permute(0, 3, 1, 2) / 127.5 - 1.0


def psnr(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Peak signal to noise, dB, per picture; both in -1..1 and rounded to 8 bits by the caller or not at all."""
    error = ((one - other) / 2).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp_min(1e-10))


def train(folder: Path, recipe: Recipe, until: int | None = None) -> Training:
    """Train (or go on training) in ``folder``."""
    model = build(recipe.seed)
    training = Training(model, recipe, folder)

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        start = FIRST_SEED + step * BATCH
        x = to_tensor(draw_seeds(range(start, start + BATCH)))
        posterior = model.encode(x).latent_dist
        y = model.decode(posterior.sample()).sample
        square = (y - x).square().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        total = square + 0.05 * (y - x).abs().mean() + KL_WEIGHT * kl
        return total, {"psnr": float(psnr(x, y.detach()).mean()), "kl": float(kl.detach())}

    training.run(loss, until=until)
    return training
