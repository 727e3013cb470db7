"""Encode: pictures through the frozen VAE and texts through the frozen text encoder, remembered where memory allows."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from transformers import CLIPTextModel, CLIPTokenizer

from vip.diffusion.batches import Batch
from vip.diffusion.levels import Level, mask_at
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

    With a cache every item is encoded alone: a value then depends on nothing but its item, and a resumed run, whose
    cache starts empty, computes the same bits.

    Args:
        vae, tokenizer, text_encoder: of the base; the networks are put to eval mode and frozen.
        device: where they run.
        cache_mb: megabytes of pictures and texts to remember, half for each; 0 = encode batch by batch.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        device: torch.device,
        cache_mb: int,
    ) -> None:
        for module in (vae, text_encoder):
            module.eval().requires_grad_(False).to(device)
        self._vae, self._tokenizer, self._text_encoder, self._device = vae, tokenizer, text_encoder, device
        limit = cache_mb * (1 << 20) // 2
        self._pictures = Memory(limit) if limit else None
        self._texts = Memory(limit) if limit else None

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Encoded:
        """Encode a batch."""
        size = tuple(batch.noise.shape[-2:])
        scale = self._vae.config["scaling_factor"]
        noise = batch.noise.to(self._device)
        picture = batch.pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        kept = picture * (batch.masks < 0.5)
        latents = self._sample(self._moments(picture, [key[0] for key in batch.keys]), noise[:, 1]) * scale
        known = self._sample(self._moments(kept, list(batch.keys)), noise[:, 2]) * scale
        mask = mask_at(batch.masks, (size[0], size[1]), "nearest").to(known)
        total, center, surrounding = (self._encode([prompt[part] for prompt in batch.prompts]) for part in range(3))
        levels = tuple(level.to(self._device) for level in batch.levels)
        return Encoded(latents, torch.cat([mask, known], dim=1), total, center, surrounding, levels)

    def _moments(self, pictures: torch.Tensor, keys: Sequence[Hashable]) -> torch.Tensor:
        def encode(values: torch.Tensor) -> torch.Tensor:
            return self._vae.encode(values.to(self._device, self._vae.dtype)).latent_dist.parameters.float()

        if self._pictures is None:
            return encode(pictures)
        found = []
        for key, picture in zip(keys, pictures, strict=True):
            found.append(self._pictures.get(key, lambda picture=picture: encode(picture[None]).cpu()))  # type: ignore[misc]
        return torch.cat(found).to(self._device)

    @staticmethod
    def _sample(moments: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        posterior = DiagonalGaussianDistribution(moments)
        return posterior.mean + posterior.std * noise

    def _encode(self, texts: list[str]) -> torch.Tensor:
        def encode(values: list[str]) -> torch.Tensor:
            return encode_texts(self._tokenizer, self._text_encoder, values).float()

        if self._texts is None:
            return encode(texts)
        found = []
        for text in texts:
            found.append(self._texts.get(text, lambda text=text: encode([text]).cpu()))  # type: ignore[misc]
        return torch.cat(found).to(self._device)
