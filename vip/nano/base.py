"""The nano base: a plain Stable Diffusion inpainting model (9-channel UNet, CLIP text encoder) on drawn scenes."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer

from vip.nano.autoencoder import to_tensor
from vip.nano.loop import Recipe, Training, seed_step
from vip.nano.prompts import build_tokenizer, vary
from vip.nano.regions import draw_region, mask_of
from vip.nano.scene import TRAINING_SEEDS, make_scene
from vip.nano.truth import Truth, truth
from vip.nano.world import draw

BATCH = 16
FIRST_SEED = 100 * TRAINING_SEEDS
CHUNK = 1024
"""Scenes whose latents are computed at once."""
CHUNK_STEPS = 200
"""A new chunk joins the pool every so many steps."""
MAX_CHUNKS = 32
KEPT_WEIGHT = 0.3
"""Weight of the known part in the loss; copying it is easy, and not what the model is for."""
SNR_GAMMA = 5.0

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
"""Stable Diffusion 1.x's own noise schedule."""


def build(seed: int = 0) -> Any:
    """A fresh UNet, weights from ``seed``."""
    seed_step(seed, -3)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        block_out_channels=(48, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        norm_num_groups=8,
        attention_head_dim=4,
    )


def encode(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Scaled latents (the mean), float32 [N, 4, 16, 16]."""
    with torch.no_grad():
        return vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor


class Pool:
    """Latents of training scenes under masks, computed chunk by chunk and kept in a folder."""

    def __init__(self, vae: Any, folder: Path) -> None:
        self.vae, self.folder = vae.eval(), folder
        folder.mkdir(parents=True, exist_ok=True)

    @functools.lru_cache(maxsize=MAX_CHUNKS)  # noqa: B019 - one pool lives as long as the process
    def chunk(self, number: int) -> tuple[dict[str, torch.Tensor], list[Truth]]:
        """``latents``, ``masked``, ``masks`` and the truths of one chunk."""
        first = FIRST_SEED + number * CHUNK
        scenes = [make_scene(seed) for seed in range(first, first + CHUNK)]
        masks = [mask_of(draw_region(np.random.Generator(np.random.PCG64([s.seed, 11])))) for s in scenes]
        facts = [truth(scene, mask) for scene, mask in zip(scenes, masks, strict=True)]
        path = self.folder / f"chunk-{number}.safetensors"
        if path.exists():
            return load_file(path), facts
        stacked = torch.from_numpy(np.stack(masks)).float()[:, None]
        latents, masked = [], []
        for i in range(0, CHUNK, 32):
            pixels = to_tensor(np.stack([draw(scene) for scene in scenes[i : i + 32]]))
            latents.append(encode(self.vae, pixels))
            masked.append(encode(self.vae, pixels * (stacked[i : i + 32] < 0.5)))
        tensors = {
            "latents": torch.cat(latents).contiguous(),
            "masked": torch.cat(masked).contiguous(),
            "masks": nn.functional.interpolate(stacked, size=(16, 16)),
        }
        partial = path.with_suffix(".partial")
        save_file(tensors, partial)
        partial.replace(path)
        return tensors, facts


def train(folder: Path, vae: Any, text_encoder: Any, recipe: Recipe, until: int | None = None) -> Training:
    """Train (or go on training) a UNet in ``folder``; ``vae`` and ``text_encoder`` stay as they are."""
    tokenizer = build_tokenizer()
    text_encoder.eval().requires_grad_(False)
    unet = build(recipe.seed).to(memory_format=torch.channels_last)  # an eighth faster on a CPU
    training = Training(unet, recipe, folder)
    pool = Pool(vae, folder / "latents")
    scheduler: Any = DDPMScheduler(**{k: v for k, v in SCHEDULE.items() if k != "set_alpha_to_one"})
    alphas = scheduler.alphas_cumprod
    snr = alphas / (1 - alphas)
    # Times drawn as often as the loss weighs them (min-SNR): the same mean, less noise than weighing a uniform draw.
    often = snr.clamp(max=SNR_GAMMA) / snr

    def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.Generator(np.random.PCG64([recipe.seed, step, 13]))
        chunks = min(1 + step // CHUNK_STEPS, MAX_CHUNKS)
        picks = [(int(rng.integers(chunks)), int(rng.integers(CHUNK))) for _ in range(BATCH)]
        rows = {
            name: torch.stack([pool.chunk(c)[0][name][i] for c, i in picks]) for name in ("latents", "masked", "masks")
        }
        prompts = [vary(pool.chunk(c)[1][i], rng) for c, i in picks]
        tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
        noise = torch.randn_like(rows["latents"])
        times = torch.multinomial(often, BATCH, replacement=True)
        noisy = scheduler.add_noise(rows["latents"], noise, times)
        with torch.no_grad():
            states = text_encoder(tokens)[0]
        seen = torch.cat([noisy, rows["masks"], rows["masked"]], 1).contiguous(memory_format=torch.channels_last)
        guess = unet(seen, times, states).sample
        square = (guess - noise).square()
        weight = rows["masks"] + KEPT_WEIGHT * (1 - rows["masks"])
        each = (square * weight).sum((1, 2, 3)) / (4 * weight.sum((1, 2, 3)))
        return each.mean(), {"eps_mse": float(square.detach().mean())}

    training.run(loss, until=until)
    return training


def save(unet: Any, text_encoder: Any, vae: Any, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write a StableDiffusionInpaintPipeline; weights as float16, computed with as float32."""
    unet.to(memory_format=torch.contiguous_format)
    modules = (vae, text_encoder, unet)
    for module in modules:
        module.half()
    pipeline: Any = StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    for module in modules:
        module.float()
