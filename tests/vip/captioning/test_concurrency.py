"""The number in flight finds what a server can use."""

import heapq

import pytest

from vip.captioning.client import retry_after
from vip.captioning.concurrency import Concurrency, Load
from vip.captioning.endpoint import read_load


def simulate(concurrency, seconds, latency, capacity, metrics=False, slower_above=None):
    """A server of ``capacity`` answers a second, which drops above ``slower_above`` in flight; returns mean rate."""
    now, free, done, flying = 0.0, 0.0, 0, []
    next_look = 0.5
    while now < seconds:
        while len(flying) < concurrency.limit:
            rate = capacity if not slower_above or len(flying) <= slower_above else 0.8 * capacity
            free = max(free, now) + 1 / rate
            heapq.heappush(flying, max(free, now + latency))
        now = heapq.heappop(flying)
        done += 1
        concurrency.answered(now, len(flying) + 1)
        if metrics and now > next_look:
            next_look = now + 0.5
            waiting = max(0.0, len(flying) - latency * capacity)
            concurrency.told(Load(len(flying) - waiting, waiting, 0.1, 0), now)
    return done / seconds


@pytest.mark.parametrize("metrics", [True, False])
@pytest.mark.parametrize(("latency", "capacity"), [(0.05, 1000), (1.0, 100), (0.5, 20)])
def test_a_server_is_filled_and_its_queue_stays_short(latency, capacity, metrics):
    concurrency = Concurrency(32, 512)
    rate = simulate(concurrency, 60, latency, capacity, metrics)
    assert rate > 0.93 * capacity
    assert concurrency.limit <= max(4 * latency * capacity, 64)


def test_a_server_that_shows_no_queue_is_full_within_seconds():
    concurrency = Concurrency(32, 512)
    simulate(concurrency, 5, 1.0, 300, metrics=True)
    assert concurrency.limit == 256


def test_a_server_that_answers_slowly_is_not_led_to_its_deadline():
    concurrency = Concurrency(32, 512)
    for second in range(60):
        concurrency.told(Load(concurrency.limit, 0, 0.1, 0), float(second))
        concurrency.answered(second + 0.5, concurrency.limit)
    assert concurrency.limit == 32


def test_more_in_flight_that_slows_the_server_is_taken_back():
    concurrency = Concurrency(32, 512)
    simulate(concurrency, 30, 1.0, 100, slower_above=130)
    assert concurrency.limit == 128


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 0.2), ("3", 3.0), ("0", 0.1), ("9" * 400, 30.0), ("²", 0.2), ("Wed, 21 Oct", 0.2)]
)
def test_a_server_says_when_to_come_back_in_digits_or_not_at_all(header, seconds):
    assert retry_after(header) == seconds


def test_a_queue_preemptions_and_429_lower_it():
    for happens in (
        lambda c: c.told(Load(64, 100, 0.5, 0), 1.0),
        lambda c: c.throttled(1.0),
        lambda c: (c.told(Load(64, 0, 0.5, 1), 1.0), c.told(Load(64, 0, 0.5, 2), 2.0)),
    ):
        concurrency = Concurrency(64, 512)
        happens(concurrency)
        assert concurrency.limit < 64


def test_throttling_halves_once_a_second():
    concurrency = Concurrency(64, 512)
    for _ in range(20):
        concurrency.throttled(1.0)
    assert concurrency.limit == 32


def test_a_fixed_number_stays():
    concurrency = Concurrency(32, 512, fixed=7)
    simulate(concurrency, 10, 0.05, 1000, metrics=True)
    assert concurrency.limit == 7


def test_the_metrics_page_of_vllm_is_read():
    page = (
        "# HELP vllm:num_requests_running x\n"
        'vllm:num_requests_running{engine="0",model_name="m"} 12.0\n'
        'vllm:num_requests_running{engine="1",model_name="m"} 3.0\n'
        'vllm:num_requests_waiting{engine="0",model_name="m"} 4.0\n'
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 4.0\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.5\n'
        'vllm:num_preemptions_total{engine="0"} 2.0\n'
    )
    assert read_load(page) == Load(15.0, 4.0, 0.5, 2.0)
    assert read_load("http_requests_total 3\n") is None
