"""Encode: pictures through the frozen VAE and texts through the frozen text encoder, remembered where memory allows."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from transformers import CLIPTextModel, CLIPTokenizer

from vip.diffusion.batch import Batch
from vip.diffusion.levels import Level, pooled_mask
from vip.diffusion.text import encode_texts


class Encoded(NamedTuple):
    """A batch as the UNet takes it.

    Attributes:
        latents: (B, 4, h, w), scaled.
        condition: (B, 5, h, w), mask and masked-image latents.
        total, center, surrounding: (B, tokens, channels).
        levels: masks at every resolution, on the device.
    """

    latents: torch.Tensor
    condition: torch.Tensor
    total: torch.Tensor
    center: torch.Tensor
    surrounding: torch.Tensor
    levels: tuple[Level, ...]


class Memory:
    """Least recently used tensors on the CPU, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._values: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The tensor of ``key``, made where it is not held."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = make()
        size = value.numel() * value.element_size()
        if size <= self._limit:
            self._values[key] = value
            self._held += size
        while self._held > self._limit:
            _, dropped = self._values.popitem(last=False)
            self._held -= dropped.numel() * dropped.element_size()
        return value


class Encoder:
    """The frozen half of the model.

    With a cache, and for what is precomputed, every item is encoded alone: a value then depends on nothing but its
    item, so that a resumed run, whose cache starts empty, and a run that reads artifacts compute the same bits.

    Args:
        vae, tokenizer, text_encoder: of the base; the networks are put to eval mode and frozen, and go to the device
            when they are first needed: where everything is precomputed, they never are.
        device: where they run.
        cache_mb: megabytes of pictures and texts to remember, half for each.
        alone: encode every item by itself; without it, batch by batch, and nothing is remembered.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        device: torch.device,
        cache_mb: int = 0,
        alone: bool = True,
    ) -> None:
        for module in (vae, text_encoder):
            module.eval().requires_grad_(False)
        self._vae, self._tokenizer, self._text_encoder, self._device = vae, tokenizer, text_encoder, device
        limit = cache_mb * (1 << 20) // 2
        self._pictures = Memory(limit) if alone else None
        self._texts = Memory(limit) if alone else None

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Encoded:
        """Encode a batch."""
        size = tuple(batch.noise.shape[-2:])
        scale = self._vae.config["scaling_factor"]
        noise = batch.noise.to(self._device)
        whole, kept = self._posteriors(batch)
        latents, known = self._sample(whole, noise[:, 1]) * scale, self._sample(kept, noise[:, 2]) * scale
        mask = pooled_mask(batch.masks, (size[0], size[1]), "nearest").to(known)
        total, center, surrounding = self._states(batch)
        levels = tuple(level.to(self._device) for level in batch.levels)
        return Encoded(latents, torch.cat([mask, known], dim=1), total, center, surrounding, levels)

    @torch.no_grad()
    def moments(self, pixels: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """The posterior of one picture, of which every use draws its own sample.

        Args:
            pixels: (H, W, 3) uint8.
            mask: (H, W), 1 = generate, which is hidden from the VAE; None = the whole picture.

        Returns:
            (2 * channels, h, w) float32, means and log variances.
        """
        picture = _as_input(torch.from_numpy(pixels.copy())[None])
        shown = picture if mask is None else _hide(picture, torch.from_numpy(mask.copy())[None, None].float())
        return self._encode_picture(shown[0])[0].numpy()

    @torch.no_grad()
    def states(self, text: str) -> np.ndarray:
        """One text through the text encoder: (tokens, channels) float32."""
        return self._encode_text(text)[0].numpy()

    def _posteriors(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Moments of the whole pictures and of their kept parts, each (B, 2 * channels, h, w)."""
        if batch.moments is not None:
            whole, kept = batch.moments.to(self._device).unbind(1)
            return whole, kept
        picture = _as_input(cast(torch.Tensor, batch.pixels))
        whole = self._moments(picture, [key[0] for key in batch.keys])
        return whole, self._moments(_hide(picture, batch.masks), list(batch.keys))

    def _states(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The three texts, each (B, tokens, channels)."""
        if batch.states is not None:
            return batch.states.to(self._device).unbind(1)
        return tuple(self._encode([prompt[part] for prompt in batch.prompts]) for part in range(3))

    def _moments(self, pictures: torch.Tensor, keys: Sequence[Hashable]) -> torch.Tensor:
        if self._pictures is None:
            return self._encode_pictures(pictures)
        found = []
        for key, picture in zip(keys, pictures, strict=True):
            found.append(self._pictures.get(key, partial(self._encode_picture, picture)))
        return torch.cat(found).to(self._device)

    def _encode(self, texts: list[str]) -> torch.Tensor:
        if self._texts is None:
            return self._encode_texts(texts)
        return torch.cat([self._texts.get(text, partial(self._encode_text, text)) for text in texts]).to(self._device)

    def _encode_picture(self, picture: torch.Tensor) -> torch.Tensor:
        """One picture (3, H, W) alone: (1, 2 * channels, h, w) on the CPU.

        Taken out of its batch in one way only: the strides of a batch of one decide which kernels run.
        """
        return self._encode_pictures(picture[None]).cpu()

    def _encode_text(self, text: str) -> torch.Tensor:
        """One text alone: (1, tokens, channels) on the CPU."""
        return self._encode_texts([text]).cpu()

    def _encode_pictures(self, values: torch.Tensor) -> torch.Tensor:
        vae = self._vae.to(self._device)
        return vae.encode(values.to(self._device, vae.dtype)).latent_dist.parameters.float()

    def _encode_texts(self, values: list[str]) -> torch.Tensor:
        return encode_texts(self._tokenizer, self._text_encoder.to(self._device), values).float()

    @staticmethod
    def _sample(moments: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        posterior = DiagonalGaussianDistribution(moments)
        return posterior.mean + posterior.std * noise


def _as_input(pixels: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 as the VAE takes it: (B, 3, H, W) in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def _hide(picture: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The pictures with what is generated made grey."""
    return picture * (masks < 0.5)
