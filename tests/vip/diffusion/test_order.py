from collections import Counter

import numpy as np
import pytest

from vip.diffusion.order import Order


def walk(order, start, stop):
    return [(place.shard, place.row) for place in map(order.place, range(start, stop))]


@pytest.mark.parametrize("counts", [[5], [3, 0, 7, 1], list(range(1, 30))])
def test_every_sample_comes_once_an_epoch_and_epochs_differ(counts):
    order = Order(counts, ["d"] * len(counts), {}, seed=1)
    size = sum(counts)
    wanted = sorted((shard, row) for shard, count in enumerate(counts) for row in range(count))
    epochs = [walk(order, epoch * size, (epoch + 1) * size) for epoch in range(3)]
    assert all(sorted(epoch) == wanted for epoch in epochs)
    assert size < 6 or epochs[0] != epochs[1]
    assert epochs[0] != wanted or size < 6


def test_any_position_is_found_again_without_walking_there():
    counts = list(range(1, 40))
    forward = walk(Order(counts, ["d"] * 39, {}, seed=2), 0, 2000)
    fresh = Order(counts, ["d"] * 39, {}, seed=2)
    for position in [1999, 3, 780, 781, 0]:
        place = fresh.place(position)
        assert (place.shard, place.row) == forward[position]


def test_a_mixture_draws_datasets_by_weight_and_each_image_once_an_epoch():
    counts, names = [40, 60, 10], ["big", "big", "small"]
    order = Order(counts, names, {"big": 1.0, "small": 3.0}, seed=3)
    drawn = walk(order, 0, 9000)
    share = sum(shard == 2 for shard, _ in drawn) / 9000
    assert share == pytest.approx(0.75, abs=0.02)
    small = [row for shard, row in drawn if shard == 2]
    assert all(Counter(small[start : start + 10]) == Counter(range(10)) for start in range(0, 6000, 10))
    again = Order(counts, names, {"big": 1.0, "small": 3.0}, seed=3)
    assert walk(again, 8190, 8200) == drawn[8190:8200]


def test_a_dataset_without_a_weight_is_left_out():
    order = Order([4, 4], ["a", "b"], {"a": 1.0}, seed=0)
    assert {shard for shard, _ in walk(order, 0, 50)} == {0}


def test_memory_is_bounded_by_a_window_of_shards():
    order = Order([10] * 50, ["d"] * 50, {}, seed=4)
    shards = [shard for shard, _ in walk(order, 0, 500)]
    seen = [len(set(shards[start : start + 80])) for start in range(0, 480, 80)]
    assert max(seen) <= 8 and np.unique(shards).size == 50
