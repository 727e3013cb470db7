"""Batches: samples rendered, captioned and with all their random draws, ready to be encoded."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import UnidentifiedImageError
from pydantic import TypeAdapter
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from schemas.errors import VipError
from schemas.region import Region
from schemas.train_config import TrainConfig
from schemas.training import ShardCaptions
from storage.items import RangePlace
from vip.diffusion.census import Caption, Census, Example, load_shard
from vip.diffusion.levels import Level, plan_levels
from vip.diffusion.order import SHARDS_MIXED, Order
from vip.diffusion.prompt import Prompt, make_prompt
from vip.regions.mask import render_mask
from vip.regions.view import render_view

_REGION: TypeAdapter[Region] = TypeAdapter(Region)


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
        pixels: (B, H, W, 3) uint8.
        masks: (B, 1, H, W) float32, 1 = generate.
        prompts: the texts of each, after caption dropout.
        timesteps: (B,) int64.
        noise: (B, 3, channels, h, w) float32 standard normal: for diffusion, the picture's and the masked picture's
            posterior.
        levels: the masks at every resolution of the UNet.
    """

    keys: list[tuple[str, str]]
    pixels: torch.Tensor
    masks: torch.Tensor
    prompts: list[Prompt]
    timesteps: torch.Tensor
    noise: torch.Tensor
    levels: tuple[Level, ...]


class Batches(IterableDataset[Batch]):
    """An endless stream of batches for one process.

    Everything drawn for a sample (region, caption dropout, timestep, noise) comes from a counter-based generator keyed
    by the seed and the sample's position. So the stream depends neither on the number of workers nor on that of
    processes: two processes see together what one would see with twice the batch.

    Args:
        shards, census: the data, as counted by :func:`vip.diffusion.census.take_census`.
        config: the run.
        shape: of the model.
        start: position of the first sample, all processes together.
        rank, world: this process and the number of processes.
    """

    def __init__(
        self,
        shards: Sequence[ShardCaptions],
        census: Census,
        config: TrainConfig,
        shape: Shape,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._shards, self._census, self._config, self._shape = list(shards), census, config, shape
        self._start, self._rank, self._world = start, rank, world

    def __iter__(self) -> Iterator[Batch]:
        """Batches from ``start`` on; of several workers each yields its share, in the order in which they are asked."""
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        config = self._config
        order = Order(self._census.counts, [shard.dataset for shard in self._shards], config.datasets, config.seed)
        rows = lru_cache(maxsize=2 * SHARDS_MIXED * max(1, len(order.sizes)))(self._rows)
        span = config.batch * self._world
        first = self._start + self._rank * config.batch + number * span
        while True:
            samples = []
            for position in range(first, first + config.batch):
                place = order.place(position)
                samples.append(self._sample(place.shard, rows(place.shard)[place.row], position))
            yield self._collate(samples)
            first += workers * span

    def _rows(self, shard: int) -> list[Example]:
        return load_shard(self._shards[shard], self._config)[0]

    def _sample(self, shard: int, example: Example, position: int) -> tuple[Any, ...]:
        config, shape = self._config, self._shape
        rng = np.random.Generator(np.random.Philox(key=[config.seed, position]))
        caption = example.captions[_pick(rng.random(), [caption.weight for caption in example.captions])]
        prompt = draw_prompt(caption, example.without_text, rng, config)
        data = RangePlace(self._shards[shard].tar, example.offset, example.bytes).read()
        try:
            pixels = render_view(data, config.view)
        except (OSError, UnidentifiedImageError, ValueError) as error:
            raise VipError(
                f"image {example.image_sha256} in {self._shards[shard].tar} cannot be read: {error}",
                "run `vip audit verify`",
            ) from error
        mask = render_mask(_REGION.validate_json(caption.region_json), config.view)
        timestep = int(rng.integers(shape.timesteps))
        noise = rng.standard_normal((3, shape.channels, shape.height, shape.width), np.float32)
        return (example.image_sha256, caption.region), pixels, mask, prompt, timestep, noise

    def _collate(self, samples: list[tuple[Any, ...]]) -> Batch:
        keys, pixels, masks, prompts, timesteps, noise = zip(*samples, strict=True)
        shape = self._shape
        mask = torch.from_numpy(np.stack(masks))[:, None].float()
        levels = plan_levels(mask, (shape.height, shape.width), shape.levels, self._config.mask_mode)
        return Batch(
            list(keys),
            torch.from_numpy(np.stack(pixels)),
            mask,
            list(prompts),
            torch.tensor(timesteps),
            torch.from_numpy(np.stack(noise)),
            levels,
        )


def load_batches(batches: Batches, workers: int) -> DataLoader[Batch]:
    """The stream, read and rendered by ``workers`` processes (0 = here); the order does not depend on them."""
    return DataLoader(
        batches,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=2 if workers else None,
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def draw_prompt(caption: Caption, without_text: bool, rng: np.random.Generator, config: TrainConfig) -> Prompt:
    """The texts of a sample after caption dropout.

    Draws the same number of values whatever comes out, so that one setting does not shift the draws of another.
    """
    whole, half, side = rng.random(3)
    if without_text or whole < config.dropout:
        return make_prompt("", "", style=config.prompt_style)
    if half < config.half_dropout:
        centre, surrounding = ("", caption.surrounding) if side < 0.5 else (caption.centre, "")
        return make_prompt(centre, surrounding, style=config.prompt_style)
    return make_prompt(caption.centre, caption.surrounding, caption.total, config.prompt_style)


def _pick(draw: float, weights: list[float]) -> int:
    edges = np.cumsum(weights)
    return int(min(np.searchsorted(edges, draw * edges[-1], side="right"), len(weights) - 1))
