"""The AutoencoderKL of the nano base: 64 px RGB to 4 x 16 x 16 latents."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from vip.nano.loop import Recipe, Training, seed_step
from vip.nano.scene import SIZE, TRAINING_SEEDS, make_scene
from vip.nano.world import draw, draw_seeds

BATCH = 8
"""Whole pictures in a step."""
CROPS = 16
"""Crops in a step: most of the training runs on crops, which are a quarter of the work each and show things large."""
CROP = 32
CROP_SHARE = 0.85
"""Share of the steps that run on crops; the last ones run on whole pictures."""
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
        # No attention: what is learned on crops holds for whole pictures.
        mid_block_add_attention=False,
    )


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures, np.float32)).permute(0, 3, 1, 2) / 127.5 - 1.0


def psnr(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Peak signal to noise, dB, per picture; both in -1..1 and rounded to 8 bits by the caller or not at all."""
    error = ((one - other) / 2).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp_min(1e-10))


def crops(seeds: range) -> np.ndarray:
    """One crop of each scene, two thirds of them around an object; uint8 [N, 32, 32, 3]."""
    out = []
    for seed in seeds:
        scene = make_scene(seed)
        u = np.random.Generator(np.random.PCG64([seed, 5])).random(4)
        objects = (scene.subject, *scene.things)
        chosen = objects[int(u[0] * len(objects))]
        x, y = (chosen.x + 20 * (u[1] - 0.5), chosen.y + 20 * (u[2] - 0.5)) if u[3] < 0.67 else (64 * u[1], 64 * u[2])
        left, top = (int(np.clip(round(v) - CROP // 2, 0, SIZE - CROP)) for v in (x, y))
        out.append(draw(scene)[top : top + CROP, left : left + CROP])
    return np.stack(out)


def pictures_at(step: int, steps: int, first_seed: int) -> torch.Tensor:
    """What is learned at ``step`` of ``steps``: crops, towards the end whole pictures; float32 in -1..1."""
    start = first_seed + step * CROPS
    if step < steps * CROP_SHARE:
        return to_tensor(crops(range(start, start + CROPS)))
    return to_tensor(draw_seeds(range(start, start + BATCH)))


def load(scratch: Path) -> Any:
    """The autoencoder trained in ``scratch``, with the scale of its latents measured."""
    model = build()
    Training(model, Recipe(steps=1, learning_rate=0.0), scratch / "autoencoder").use_average()
    model.eval()
    with torch.inference_mode():
        x = to_tensor(draw_seeds(range(FIRST_SEED, FIRST_SEED + 256)))
        spread = torch.cat([model.encode(part).latent_dist.mode() for part in x.split(32)]).std()
    model.register_to_config(scaling_factor=round(float(1 / spread), 4))
    return model


def train(folder: Path, recipe: Recipe, until: int | None = None) -> Training:
    """Train (or go on training) in ``folder``."""
    model = build(recipe.seed)
    training = Training(model, recipe, folder)

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        x = pictures_at(step, recipe.steps, FIRST_SEED)
        posterior = model.encode(x).latent_dist
        y = model.decode(posterior.sample()).sample
        square = (y - x).square().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        total = square + 0.1 * (y - x).abs().mean() + KL_WEIGHT * kl
        return total, {"psnr": float(psnr(x, y.detach()).mean()), "kl": float(kl.detach())}

    training.run(loss, until=until)
    return training
