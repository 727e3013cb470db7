"""Order: which sample comes when. A pure function of the seed, so that any position can be found again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SHARDS_MIXED = 8
"""Shards whose samples are shuffled together; bounds how many shards' captions are in memory."""

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """One sample: the shard (place in the list of shards) and its row there."""

    shard: int
    row: int


class Order:
    """An endless stream of samples, position by position.

    Every dataset is walked epoch by epoch; in each epoch every image comes once, in an order of its own: shards are
    shuffled, and within every :data:`SHARDS_MIXED` of them all samples. With several datasets a draw by weight says
    which one is next. Position n is the same whoever asks: ranks and workers take every so-many-th batch, and a resumed
    run goes on where it was, without replaying anything.

    Args:
        counts: usable samples of each shard.
        datasets: dataset of each shard.
        weights: weight of each dataset in the draw; empty = by number of samples.
        seed: of everything.
    """

    def __init__(self, counts: Sequence[int], datasets: Sequence[str], weights: dict[str, float], seed: int) -> None:
        self._seed = seed
        self._names = sorted(name for name in set(datasets) if not weights or name in weights)
        self._shards = {
            name: [
                place for place, (of, count) in enumerate(zip(datasets, counts, strict=True)) if of == name and count
            ]
            for name in self._names
        }
        self._names = [name for name in self._names if self._shards[name]]
        self._counts = list(counts)
        self.sizes = {name: sum(counts[place] for place in self._shards[name]) for name in self._names}
        shares = np.array([weights.get(name, 0.0) if weights else self.sizes[name] for name in self._names], float)
        self._shares = shares / shares.sum() if len(shares) else shares
        self._before: list[np.ndarray] = [np.zeros(len(self._names), np.int64)]
        self._choices = lru_cache(maxsize=4)(self._draw_choices)
        self._windows = lru_cache(maxsize=2 * max(1, len(self._names)))(self._draw_windows)
        self._shuffled = lru_cache(maxsize=2 * max(1, len(self._names)))(self._draw_shuffled)

    def place(self, position: int) -> Place:
        """The sample at ``position`` (0-based)."""
        number, nth = self._dataset(position)
        size = self.sizes[self._names[number]]
        epoch, within = divmod(nth, size)
        starts = self._windows(number, epoch)[1]
        window = int(np.searchsorted(starts, within, side="right")) - 1
        shard, row = self._shuffled(number, epoch, window)[within - int(starts[window])]
        return Place(int(shard), int(row))

    def _dataset(self, position: int) -> tuple[int, int]:
        """Which dataset is drawn at ``position``, and how many of its samples came before."""
        if len(self._names) == 1:
            return 0, position
        block, within = divmod(position, _BLOCK)
        while len(self._before) <= block:
            counted = np.bincount(self._choices(len(self._before) - 1), minlength=len(self._names))
            self._before.append(self._before[-1] + counted)
        choices = self._choices(block)
        number = int(choices[within])
        return number, int(self._before[block][number]) + int((choices[:within] == number).sum())

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, *key))))

    def _draw_choices(self, block: int) -> np.ndarray:
        return self._rng(0, block).choice(len(self._names), size=_BLOCK, p=self._shares)

    def _draw_windows(self, number: int, epoch: int) -> tuple[list[list[int]], np.ndarray]:
        """The shards of each window, and the position in the epoch at which each begins."""
        shards = self._rng(1, number, epoch).permutation(self._shards[self._names[number]]).tolist()
        windows = [shards[start : start + SHARDS_MIXED] for start in range(0, len(shards), SHARDS_MIXED)]
        sizes = [sum(self._counts[shard] for shard in window) for window in windows]
        return windows, np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def _draw_shuffled(self, number: int, epoch: int, window: int) -> np.ndarray:
        """(samples, 2) int64: shard and row of every sample of a window, shuffled."""
        shards = self._windows(number, epoch)[0][window]
        rows = [np.stack([np.full(self._counts[shard], shard), np.arange(self._counts[shard])], 1) for shard in shards]
        return self._rng(2, number, epoch, window).permutation(np.concatenate(rows))
