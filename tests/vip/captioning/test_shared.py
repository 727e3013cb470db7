"""Several captioning processes on one dataset: they share it, and nobody asks what another has asked."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.budget import Budget
from storage.answers import Answers
from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import BANK, make_dataset, make_spec, run, write_images
from vip.captioning.ask import ask
from vip.captioning.ask_stats import AskStats
from vip.captioning.endpoint import ClientSettings
from vip.captioning.plan import plan_captions

PROJECT = Path(__file__).resolve().parents[3]
FEW = ClientSettings(publish_every=0.2, fixed_in_flight=8)


@pytest.fixture
def many(store, tmp_path):
    return make_dataset(store, write_images(tmp_path / "many", 160), bits=4)


@pytest.fixture
def alone(many, store, spec, tmp_path):
    """The caption set of one undisturbed run, in a root of its own."""
    other = ArtifactStore(tmp_path / "other")
    dataset = make_dataset(other, tmp_path / "many", bits=4)
    with serving(FakeServer()) as url:
        return run(other, dataset, spec, [url], tmp_path / "other-scratch")[0]


def test_two_processes_on_two_hosts_share_a_dataset_and_ask_nothing_twice(
    store, many, spec, server, endpoint, tmp_path, alone
):
    server.latency = 0.05

    def host(name):
        # Both plan before anything is asked: each believes that all of it is its to ask.
        plan = plan_captions(store, many, spec, BANK)
        return ask(store, plan, [endpoint], tmp_path / name, settings=FEW)

    with ThreadPoolExecutor(2) as hosts:
        stats = list(hosts.map(host, ("first", "second")))
    assert sum(one.requests for one in stats) == len(server.asked) == len(set(server.asked)) == 160
    assert min(one.requests for one in stats) > 160 * 0.25
    made, more = run(store, many, spec, [endpoint], tmp_path / "third")
    assert more.requests == 0 and made.digest == alone.digest


def test_two_specs_that_read_the_same_answers_otherwise_share_them_and_each_gets_what_it_needs(
    store, many, tokenizer, server, endpoint, tmp_path
):
    server.latency = 0.05
    strict = make_spec(tokenizer)
    brief = make_spec(tokenizer, name="brief", budget={"total": 9, "over": "reask"})
    assert strict.answers_id == brief.answers_id and strict.spec_id != brief.spec_id

    def caption(spec, round=0):
        return run(store, many, spec, [endpoint], tmp_path / spec.name, round=round, settings=FEW)

    with ThreadPoolExecutor(2) as processes:
        made = [one for one, _ in processes.map(caption, (strict, brief))]
    assert [one.stats["captions"] + one.stats["rejected"] for one in made] == [160, 160]
    assert len(server.asked) == len(set(server.asked)) > 160  # some were too long for one of them

    before = len(server.asked)
    with ThreadPoolExecutor(2) as processes:
        list(processes.map(caption, (brief, brief.model_copy(update={"leave_out": ("fox",)})), (1, 0)))
    assert len(server.asked) == len(set(server.asked)) > before


def test_what_one_leaves_at_its_budget_the_other_asks(store, many, spec, server, endpoint, tmp_path):
    server.latency = 0.05
    plan = plan_captions(store, many, spec, BANK)

    def host(name, budget):
        return ask(store, plan, [endpoint], tmp_path / name, settings=FEW, budget=budget)

    with ThreadPoolExecutor(2) as hosts:
        poor, rich = hosts.map(host, ("poor", "rich"), (Budget(requests=20), Budget()))
    assert poor.requests == 20 and poor.stopped and not rich.stopped
    assert rich.requests == 140 and len(set(server.asked)) == len(server.asked) == 160


def test_one_of_two_is_killed_and_the_other_asks_only_what_was_not_kept(
    store, many, spec, tmp_path, scratch, alone, server
):
    server.latency = 0.1
    with serving(server) as url:
        order = {"root": store.backend.url, "dataset": many.key, "spec": spec.model_dump(mode="json")}
        order |= {"bank": BANK.model_dump(mode="json"), "endpoint": url, "scratch": str(scratch)}
        order["settings"] = {"fixed_in_flight": 8}
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.vip.captioning.crash_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        worker.stdin.write(json.dumps(order) + "\n")
        worker.stdin.flush()
        pid = int(worker.stdout.readline())

        async def kill(_request, _body, number):
            if number == 40:
                os.kill(pid, signal.SIGKILL)

        server.faults.append(kill)
        plan = plan_captions(store, many, spec, BANK)
        while server.requests < 8:
            pass  # the other has begun
        stats = ask(store, plan, [url], scratch, settings=FEW, begin=0.5)
        assert worker.stdout.readline() == "-9\n"
        worker.stdin.close()
        worker.wait(30)
        made, more = run(store, many, spec, [url], scratch)
    assert more.requests == 0 and made.digest == alone.digest
    # What it had answered and kept was not asked again: every answer of the store is there once.
    kept = [answer for segment in segments_of(store, spec) for answer in segment]
    assert len(kept) == len(set(kept)) == len(set(server.asked)) == 160
    assert stats.requests > 80


def segments_of(store, spec):
    """The request ids in each segment of answers."""
    answers = Answers(store.backend, spec.answers_id)
    return [answers.read(segment).column("request_id").to_pylist() for segment in answers.segments("")]


def test_shares_of_a_budget_are_the_budget():
    parts = Budget(requests=10, tokens=100, hours=1).shares(3, 3, 0, 1800)
    assert sum(one.requests for one in parts) == 7 and sum(one.tokens for one in parts) == 100
    assert {one.hours for one in parts} == {0.5}
    assert len(Budget(requests=2).shares(8, 0, 0, 0)) == 2
    assert Budget().shares(2, 5, 5, 5) == [Budget(), Budget()]
    assert Budget(requests=10).shares(2, 10, 0, 0) == Budget(tokens=10).shares(2, 0, 12, 0) == []


def test_stats_of_several_are_added_where_they_add():
    one, other = (
        AskStats(requests=3, seconds=2.0, rejected={"empty": 1}),
        AskStats(requests=4, seconds=5.0, stopped="x"),
    )
    both = AskStats.side_by_side([one, other])
    assert (both.requests, both.seconds, both.stopped, both.rejected) == (7, 5.0, "x", {"empty": 1})
