"""The estimate of a plan: rates of the latest answers, whatever prefixes they lie under, from few reads."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from schemas.canonical import sha256_hex
from storage.answers import Answers, key_bits
from storage.backend import Backend
from storage.store import ArtifactStore
from vip.captioning.estimate import estimate

PARTITION = "a" * 32
BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
KEYS = [sha256_hex(str(number).encode()) for number in range(2000)]


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "root")


def plan(requests=1000):
    return SimpleNamespace(spec=SimpleNamespace(answers_id=PARTITION), earlier_answers=None, requests=requests)


def answered(store, scratch, keys, rate, began=BEGAN, bits=4):
    """A steady engine whose journal is published every five seconds: a segment for each shard that it touched."""
    answers, groups, due = Answers(store.backend, PARTITION), defaultdict(list), began + timedelta(seconds=5)
    for number, key in enumerate(keys):
        at = began + timedelta(seconds=number / rate)
        row = {"request_id": sha256_hex(f"{began}{key}".encode()), "image_sha256": key, "view": "v", "region": "r"}
        row |= {"part": "joint", "draw": 0, "text": "t", "finish_reason": "stop", "error": None, "prompt_tokens": 10}
        row |= {"completion_tokens": 5, "attempts": 1, "seconds": 0.1, "answered_at": at, "model_id": "m"}
        groups[key_bits(key, bits)].append(row | {"endpoint": "e", "server": "s"})
        if at >= due or number == len(keys) - 1:
            for prefix, rows in sorted(groups.items()):
                answers.publish(prefix, rows, scratch)
            groups, due = defaultdict(list), due + timedelta(seconds=5)


@pytest.mark.parametrize("order", [sorted, list])
@pytest.mark.parametrize("rate", [10.0, 0.2])
def test_a_steady_rate_is_found_in_shards_one_by_one_and_all_at_once(store, tmp_path, order, rate):
    answered(store, tmp_path, order(KEYS[: 2000 if rate > 1 else 100]), rate)
    found = estimate(store, plan())
    assert found.seconds == pytest.approx(1000 / rate, rel=0.1)
    assert (found.prompt_tokens, found.completion_tokens) == (10_000, 5_000)


def test_the_latest_run_decides_and_the_time_between_runs_does_not(store, tmp_path):
    answered(store, tmp_path, KEYS[:1000], 50.0)
    later = BEGAN + timedelta(days=1)
    answered(store, tmp_path, KEYS[1000:], 10.0, later)
    assert estimate(store, plan()).seconds == pytest.approx(100, rel=0.1)
    answered(store, tmp_path, KEYS[:20], 10.0, later + timedelta(days=1))
    assert estimate(store, plan()).seconds == pytest.approx(100, rel=0.2)


def test_an_estimate_reads_the_latest_segments_only_and_nothing_where_nothing_is_asked(store, tmp_path, monkeypatch):
    answered(store, tmp_path, KEYS, 10.0)
    read, get = [], Backend.get
    monkeypatch.setattr(Backend, "get", lambda self, path: read.append(path) or get(self, path))
    assert estimate(store, plan(0)).cost == 0.0 and read == []
    estimate(store, plan())
    assert len(read) == 2 * 64
