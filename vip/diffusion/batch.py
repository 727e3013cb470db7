"""Batch: samples that are trained on together, as the learner gets them."""

from typing import NamedTuple

import torch

from vip.diffusion.levels import Level
from vip.diffusion.prompt import Prompt


class Shape(NamedTuple):
    """What a batch has to know of the model: latent channels and size, and resolutions and timesteps."""

    channels: int
    height: int
    width: int
    levels: int
    timesteps: int


class Batch(NamedTuple):
    """B samples.

    Attributes:
        keys: (image, region) of each, for caches.
        pixels: (B, H, W, 3) uint8; None where ``moments`` are there.
        masks: (B, 1, H, W) float32, 1 = generate.
        prompts: the texts of each, after caption dropout.
        timesteps: (B,) int64.
        noise: (B, 3, channels, h, w) float32 standard normal: for diffusion, the picture's and the masked picture's
            posterior.
        levels: the masks at every resolution of the UNet.
        moments: (B, 2, 2 * channels, h, w) float32, precomputed posteriors of the whole and of the masked pictures.
        states: (B, 3, tokens, width) float32, the precomputed texts.
    """

    keys: list[tuple[str, str]]
    pixels: torch.Tensor | None
    masks: torch.Tensor
    prompts: list[Prompt]
    timesteps: torch.Tensor
    noise: torch.Tensor
    levels: tuple[Level, ...]
    moments: torch.Tensor | None = None
    states: torch.Tensor | None = None
