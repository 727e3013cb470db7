"""Batches: samples with their captions and all their random draws, rendered or read as they were encoded before."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from schemas.errors import VipError
from schemas.region import read_region
from schemas.train_config import TrainConfig
from schemas.training import ShardCaptions
from vip.diffusion.batch import Batch, Shape
from vip.diffusion.census import Caption, Census, Example, load_shard, render_image
from vip.diffusion.dropout import draw_prompt
from vip.diffusion.embeddings import Embeddings
from vip.diffusion.latents import Latents
from vip.diffusion.levels import plan_levels
from vip.diffusion.order import SHARDS_MIXED, Order
from vip.diffusion.prompt import Prompt
from vip.regions.mask import render_mask


class _Draw(NamedTuple):
    """One sample before its picture is looked at."""

    shard: int
    example: Example
    caption: Caption
    prompt: Prompt
    timestep: int
    noise: np.ndarray


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
        opened = lru_cache(maxsize=2 * SHARDS_MIXED * max(1, len(order.sizes)))
        rows, latents, embeddings = opened(self._rows), opened(self._latents), opened(self._embeddings)
        span = config.batch * self._world
        first = self._start + self._rank * config.batch + number * span
        while True:
            draws = []
            for position in range(first, first + config.batch):
                place = order.place(position)
                draws.append(self._draw(place.shard, rows(place.shard)[place.row], position))
            yield self._collate(draws, latents, embeddings)
            first += workers * span

    def _rows(self, shard: int) -> list[Example]:
        return load_shard(self._shards[shard], self._config)[0]

    def _latents(self, shard: int) -> Latents | None:
        folder = self._shards[shard].latents
        return Latents(Path(folder)) if folder else None

    def _embeddings(self, shard: int) -> Embeddings | None:
        folder = self._shards[shard].embeddings
        return Embeddings(Path(folder)) if folder else None

    def _draw(self, shard: int, example: Example, position: int) -> _Draw:
        config, shape = self._config, self._shape
        rng = np.random.Generator(np.random.Philox(key=[config.seed, position]))
        caption = example.captions[_pick(rng.random(), [caption.weight for caption in example.captions])]
        prompt = draw_prompt(caption, example.without_text, rng, config)
        timestep = int(rng.integers(shape.timesteps))
        noise = rng.standard_normal((3, shape.channels, shape.height, shape.width), np.float32)
        return _Draw(shard, example, caption, prompt, timestep, noise)

    def _collate(
        self,
        draws: list[_Draw],
        latents: Callable[[int], Latents | None],
        embeddings: Callable[[int], Embeddings | None],
    ) -> Batch:
        config, shape = self._config, self._shape
        regions = [read_region(draw.caption.region_json, self._shards[draw.shard].masks) for draw in draws]
        mask = torch.from_numpy(np.stack([render_mask(region, config.view) for region in regions]))[:, None].float()
        keys = [(draw.example.image_sha256, draw.caption.region) for draw in draws]
        held = [latents(draw.shard) for draw in draws]
        read = [embeddings(draw.shard) for draw in draws]
        encoded = _stack(one.look_up(*key) if one else None for one, key in zip(held, keys, strict=True))
        states = _stack(one.look_up(draw.prompt) if one else None for one, draw in zip(read, draws, strict=True))
        return Batch(
            keys=keys,
            pixels=self._render(draws) if encoded is None else None,
            masks=mask,
            prompts=[draw.prompt for draw in draws],
            timesteps=torch.tensor([draw.timestep for draw in draws]),
            noise=torch.from_numpy(np.stack([draw.noise for draw in draws])),
            levels=plan_levels(
                mask, (shape.height, shape.width), shape.levels, config.mask_mode, uniform=config.compile
            ),
            moments=encoded,
            states=states,
        )

    def _render(self, draws: list[_Draw]) -> torch.Tensor:
        view = self._config.view
        return torch.from_numpy(
            np.stack([render_image(self._shards[draw.shard].tar, draw.example, view) for draw in draws])
        )


def load_batches(batches: Batches, workers: int) -> Iterator[Batch]:
    """The stream, read and rendered by ``workers`` processes (0 = here); the order does not depend on them.

    Raises:
        VipError: where an image cannot be read; it names the image.
    """
    loader = DataLoader(
        _Told(batches),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=2 if workers else None,
    )
    for batch in loader:
        if isinstance(batch, VipError):
            raise batch
        yield batch


class _Told(IterableDataset[Batch | VipError]):
    """The stream, its error being the last thing that it yields: torch makes text of what a worker raises."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch | VipError]:
        try:
            yield from self._batches
        except VipError as error:
            yield error


def _as_it_is(batch: Any) -> Any:
    return batch


def _pick(draw: float, weights: list[float]) -> int:
    edges = np.cumsum(weights)
    return int(min(np.searchsorted(edges, draw * edges[-1], side="right"), len(weights) - 1))


def _stack(rows: Iterable[np.ndarray | None]) -> torch.Tensor | None:
    """All rows as one tensor, or None where one of them is not held: then the whole batch is encoded anew."""
    held = []
    for row in rows:
        if row is None:
            return None
        held.append(row)
    return torch.from_numpy(np.stack(held))
