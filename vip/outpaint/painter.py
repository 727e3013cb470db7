"""Painter: one denoising of a whole canvas, by all of its tiles together."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from vip.diffusion.levels import Level, plan_levels
from vip.diffusion.pipeline import VIPOutpaintPipeline, step_options
from vip.diffusion.prompt import make_prompt
from vip.diffusion.text import encode_texts
from vip.outpaint.tiles import Tile, plan_tiles, window

_BATCH = 8
"""Tiles that go through the model at once."""

Step = Callable[[int, int], None]
"""(steps done, steps in all)"""


class _Piece(NamedTuple):
    """Tiles that go through the model together, with what does not change from step to step."""

    tiles: list[Tile]
    texts: tuple[torch.Tensor, ...]
    condition: torch.Tensor
    levels: tuple[Level, ...]
    weights: torch.Tensor
    kept: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]]


class Painter:
    """Paints canvases of any size with a model of a fixed size: that of its training, else that of its base.

    At every step each tile predicts the noise of its window; the predictions are averaged where tiles overlap, and the
    scheduler moves the whole canvas at once (MultiDiffusion, Bar-Tal et al., 2023). No tile comes before another, so
    none can leave a border. In a refinement the tiles lie elsewhere at every other step, so that what a model likes to
    put at one place of every picture does not come up once a tile. What the centre shows is told only to tiles that see
    most of it: told to all, it would be painted once more in every tile.

    Args:
        pipeline: a trained pipeline.
        center, surrounding: texts.
        guidance: 1 or less turns guidance off.

    Raises:
        VipError: where the UNet does not ask its branches any more.
    """

    def __init__(self, pipeline: VIPOutpaintPipeline, center: str, surrounding: str, guidance: float) -> None:
        pipeline.control.require_attached(pipeline.unet)
        self.pipeline = pipeline
        self.guidance = guidance
        self._times = 2 if guidance > 1 else 1
        self.cell = pipeline.vae_scale_factor
        # Training leaves the base's own size in the UNet's config, whatever the size that it trains at.
        view, sample_size = pipeline.control.config["view"], pipeline.unet.config["sample_size"]
        trained = min(view) // self.cell if view else sample_size
        self.tile = int(trained if isinstance(trained, int) else min(trained))
        style = pipeline.control.config["prompt_style"]
        told = [make_prompt(*texts, style=style) for texts in (("", ""), (center, surrounding), ("", surrounding))]
        device, dtype = pipeline.unet.device, pipeline.unet.dtype
        # Total, centre and surrounding, each (3, tokens, width): nothing, all, all but the centre.
        self._texts = [
            encode_texts(pipeline.tokenizer, pipeline.text_encoder, list(texts)).to(device, dtype)
            for texts in zip(*told, strict=True)
        ]

    def tiles(self, mask: np.ndarray, shifted: bool = False) -> list[Tile]:
        """The tiles (in latent cells) of a canvas in which there is something to generate; see :func:`plan_tiles`."""
        height, width = (-(-length // self.cell) for length in mask.shape)
        found = plan_tiles(height, width, self.tile, self.tile // 4, shifted)
        return [tile for tile in found if mask[tile.times(self.cell).place].any()]

    @torch.no_grad()
    def paint(
        self,
        pixels: np.ndarray,
        mask: np.ndarray,
        steps: int,
        generator: torch.Generator,
        start: np.ndarray | None = None,
        strength: float = 1.0,
        step: Step | None = None,
    ) -> np.ndarray:
        """Generate what the mask marks.

        Args:
            pixels: uint8 (height, width, 3).
            mask: uint8 (height, width), 1 = generate.
            steps: of the scheduler for the full way; a start from ``strength`` takes that share of them.
            generator: of the initial noise and of what the scheduler draws at each step, on the CPU.
            start: a first picture to refine, like ``pixels``; None starts from noise alone.
            strength: share of the way that is gone again over ``start``.
            step: called after every step.

        Returns:
            uint8 (height, width, 3); tiles without a generated pixel hold ``pixels``. Nothing is pasted back yet.
        """
        height, width = mask.shape
        # Latents are whole cells: up to a cell less one is painted beyond the right and the lower edge, and cut off.
        more = ((0, -height % self.cell), (0, -width % self.cell))
        pixels, mask = np.pad(pixels, (*more, (0, 0))), np.pad(mask, more, constant_values=1)
        start = None if start is None else np.pad(start, (*more, (0, 0)), mode="edge")
        scheduler = self.pipeline.scheduler
        device, dtype = self.pipeline.unet.device, self.pipeline.unet.dtype
        size = (mask.shape[0] // self.cell, mask.shape[1] // self.cell)
        grids = [self._pieces(pixels, mask, size)]
        scheduler.set_timesteps(steps, device=device)
        noise = torch.randn((1, self.pipeline.vae.config["latent_channels"], *size), generator=generator)
        noise = noise.to(device, dtype)
        timesteps = scheduler.timesteps
        begun: torch.Tensor | None = None
        if start is None:
            latents = noise * scheduler.init_noise_sigma
        else:
            grids.append(self._pieces(pixels, mask, size, shifted=True))
            begun = self._encode_canvas(start, [*grids[0], *grids[1]], size)
            first = len(timesteps) - max(1, round(len(timesteps) * strength))
            # Heun and its like take two calls a step; begun at the second, they would finish a step nobody began.
            timesteps = timesteps[first - first % scheduler.order :]
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(len(scheduler.timesteps) - len(timesteps))
            latents = scheduler.add_noise(begun, noise, timesteps[:1])
        extra = step_options(scheduler, generator)
        for number, timestep in enumerate(timesteps, 1):
            scaled = scheduler.scale_model_input(latents, timestep)
            predicted, weight = torch.zeros_like(latents), torch.zeros_like(latents[:, :1])
            for piece in grids[number % len(grids)]:
                for tile, noise_of_tile, ramp in zip(
                    piece.tiles, self._predict(scaled, timestep, piece), piece.weights, strict=True
                ):
                    rows, columns = tile.place
                    predicted[0, :, rows, columns] += ramp * noise_of_tile
                    weight[0, :, rows, columns] += ramp
            predicted = torch.where(weight > 0, predicted / weight.clamp_min(1e-8), predicted)
            latents = scheduler.step(predicted, timestep, latents, **extra, return_dict=False)[0]
            if begun is not None:
                # Where no tile looked, nothing is generated; a tile of the next step may read it as it was.
                later = timesteps[number : number + 1]
                beside = scheduler.add_noise(begun, noise, later) if len(later) else begun
                latents = torch.where(weight > 0, latents, beside)
            if step is not None:
                step(number, len(timesteps))
        return self._decode(latents, pixels, grids[0])[:height, :width]

    def _predict(self, latents: torch.Tensor, timestep: torch.Tensor, piece: _Piece) -> torch.Tensor:
        windows = torch.cat([latents[:, :, *tile.place] for tile in piece.tiles])
        sample = torch.cat([windows.repeat(self._times, 1, 1, 1), piece.condition], dim=1)
        noise = self.pipeline.controlled(sample, timestep, *piece.texts, piece.levels, piece.kept)
        if self._times == 1:
            return noise
        away, towards = noise.chunk(2)
        return away + self.guidance * (towards - away)

    def _pieces(
        self, pixels: np.ndarray, mask: np.ndarray, size: tuple[int, int], shifted: bool = False
    ) -> list[_Piece]:
        tiles = self.tiles(mask, shifted)
        return [self._piece(tiles[at : at + _BATCH], pixels, mask, size) for at in range(0, len(tiles), _BATCH)]

    def _piece(self, tiles: Sequence[Tile], pixels: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> _Piece:
        pipeline, device, dtype = self.pipeline, self.pipeline.unet.device, self.pipeline.unet.dtype
        places = [tile.times(self.cell).place for tile in tiles]
        masks = torch.from_numpy(np.stack([mask[place] for place in places]).astype(np.float32))[:, None]
        shape = (tiles[0].height, tiles[0].width)
        known = self._encode(np.stack([pixels[place] for place in places]), masks)
        # A cell that is unknown in any part is generated: called known, its part would come out as it is hidden, grey.
        condition = torch.cat([F.max_pool2d(masks, self.cell).to(known), known], dim=1)
        config = pipeline.control.config
        levels = plan_levels(masks, shape, config["levels"], config["mask_mode"], self._times)
        weights = torch.from_numpy(np.stack([window(tile, *size) for tile in tiles]))[:, None]
        told = [0] * len(tiles) if self._times == 2 else []
        told += [1 if _sees_most(mask, place) else 2 for place in places]
        return _Piece(
            list(tiles),
            tuple(part[told] for part in self._texts),
            condition.repeat(self._times, 1, 1, 1),
            tuple(level.to(device) for level in levels),
            weights.to(device, dtype),
            kept={},
        )

    def _encode(self, pixels: np.ndarray, masks: torch.Tensor | None = None) -> torch.Tensor:
        """Scaled latents of uint8 (B, height, width, 3); what the masks generate is hidden."""
        vae = self.pipeline.vae
        values = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
        if masks is not None:
            values = values * (masks < 0.5)
        encoded = vae.encode(values.to(vae.device, vae.dtype)).latent_dist.mode()
        return encoded * vae.config["scaling_factor"]

    def _encode_canvas(self, pixels: np.ndarray, pieces: list[_Piece], size: tuple[int, int]) -> torch.Tensor:
        vae = self.pipeline.vae
        latents = torch.zeros((1, vae.config["latent_channels"], *size), device=vae.device, dtype=vae.dtype)
        weight = torch.zeros_like(latents[:, :1])
        for piece in pieces:
            encoded = self._encode(np.stack([pixels[tile.times(self.cell).place] for tile in piece.tiles]))
            for tile, part, ramp in zip(piece.tiles, encoded, piece.weights, strict=True):
                rows, columns = tile.place
                latents[0, :, rows, columns] += ramp * part
                weight[0, :, rows, columns] += ramp
        return torch.where(weight > 0, latents / weight.clamp_min(1e-8), latents)

    def _decode(self, latents: torch.Tensor, pixels: np.ndarray, pieces: list[_Piece]) -> np.ndarray:
        vae = self.pipeline.vae
        height, width = pixels.shape[:2]
        total, weight = np.zeros((height, width, 3), np.float32), np.zeros((height, width, 1), np.float32)
        for piece in pieces:
            for tile in piece.tiles:
                part = latents[:, :, *tile.place] / vae.config["scaling_factor"]
                values = vae.decode(part, return_dict=False)[0][0].float().cpu().permute(1, 2, 0).numpy()
                fine = tile.times(self.cell)
                ramp = window(fine, height, width)[..., None]
                total[fine.place] += ramp * values
                weight[fine.place] += ramp
        painted = np.rint((np.clip(total / np.maximum(weight, 1e-8), -1, 1) + 1) * 127.5).astype(np.uint8)
        return np.where(weight > 0, painted, pixels)


def _sees_most(mask: np.ndarray, place: tuple[slice, slice]) -> bool:
    """Whether half or more of the known pixels lie there."""
    return 2 * int((mask[place] == 0).sum()) >= int((mask == 0).sum())


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3) or (height, width) at another size, smoothly."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
