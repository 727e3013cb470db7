"""Engines that come and go while a run goes on, named by a file or a discovery URL, each checked before it is asked."""

import json
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from aiohttp import web
from pydantic import ValidationError

from schemas.endpoints import Endpoints
from schemas.errors import VipError
from schemas.retrain_config import CaptionConfig
from schemas.spec import ModelIdentity
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import BANK, make_dataset, write_images
from vip.captioning.ask import ask
from vip.captioning.discovery import find_endpoints, first_endpoint
from vip.captioning.endpoint import ClientSettings
from vip.captioning.plan import plan_captions

SETTINGS = ClientSettings(publish_every=0.2, fixed_in_flight=2, find_every=0.1, dead_after=0.5, stall=20)


@pytest.mark.parametrize(
    "text",
    [
        "http://a:1\n# a comment\n\n  http://b:2/v1/ \nhttp://a:1\n",
        '["http://a:1", "http://b:2/v1", "http://a:1"]',
        ' {"endpoints": ["http://a:1", "http://b:2"]}',
    ],
)
def test_a_file_names_endpoints_by_lines_or_as_json(tmp_path, text):
    (tmp_path / "engines").write_text(text)
    assert find_endpoints(Endpoints(file=str(tmp_path / "engines"))) == ["http://a:1", "http://b:2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "holds no list of URLs"),
        ("{", "begins as JSON and is none"),
        ("host:1", "'host:1' is no endpoint"),
        ("http://[::1", "'http://\\[::1' is no endpoint"),
        ("http://host:99999", "'http://host:99999' is no endpoint"),
        ("# nobody", "names no endpoint; start engines with `vip serve` first"),
    ],
)
def test_what_names_no_endpoints_is_told(tmp_path, text, said):
    (tmp_path / "engines").write_text(text)
    with pytest.raises(VipError, match=said):
        first_endpoint(Endpoints(file=str(tmp_path / "engines")))


def test_a_discovery_url_that_is_none_is_told():
    with pytest.raises(VipError, match=r"does not say which endpoints there are"):
        find_endpoints(Endpoints(discovery="http://[::1"))


def test_endpoints_are_given_in_one_way():
    with pytest.raises(ValidationError, match="give one of them"):
        CaptionConfig(endpoints=("http://a:1",), endpoints_file="engines")
    assert first_endpoint(Endpoints()) is None
    with pytest.raises(VipError, match="missing cannot be read: No such file"):
        find_endpoints(Endpoints(file="missing"))


class Fleet:
    """A plan for a handful of rows, asked in a thread, while the test moves engines about."""

    def __init__(self, store, spec, tmp_path, images=60):
        self.dataset = make_dataset(store, write_images(tmp_path / "fleet", images))
        self.plan = plan_captions(store, self.dataset, spec, BANK)
        self.store, self.place, self.told, self.images = store, tmp_path / "engines", [], images
        self.given = Endpoints(file=str(self.place))

    def name(self, *urls):
        fresh = self.place.with_suffix(".new")
        fresh.write_text("\n".join(urls))
        fresh.replace(self.place)

    def ask(self):
        def run():
            scratch = self.place.parent / "scratch"
            self.stats = ask(self.store, self.plan, self.given, scratch, settings=SETTINGS, on_change=self.told.append)

        thread = threading.Thread(target=run)
        thread.start()
        return thread


def until(ready, seconds=30):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_engines_come_and_go_and_an_impostor_gets_no_request(store, spec, tmp_path):
    fleet = Fleet(store, spec, tmp_path)
    first, second, impostor = FakeServer(latency=0.1), FakeServer(latency=0.1), FakeServer(model="another")
    with ExitStack() as stack:
        one, two, false = (stack.enter_context(serving(server)) for server in (first, second, impostor))
        fleet.name(one)
        asking = fleet.ask()
        until(lambda: first.requests > 4)
        fleet.name(one, two, false)
        until(lambda: second.requests > 4)
        fleet.name(two, false)
        until(lambda: any("no longer named" in line for line in fleet.told))
        left_at = first.requests
        asking.join(60)
    assert fleet.stats.requests == 60 == len(set(first.asked + second.asked)) == len(first.asked + second.asked)
    assert first.requests <= left_at + 2 and not impostor.requests
    served = [line for line in fleet.told if line.startswith("not used: ")]
    assert len(served) == 1 and f"endpoint {false} serves another" in served[0]
    assert set(fleet.stats.by_endpoint) == {one, two}


def test_a_run_whose_last_engine_goes_waits_for_the_next(store, spec, tmp_path):
    fleet = Fleet(store, spec, tmp_path, images=30)
    first, second = FakeServer(latency=0.05), FakeServer(latency=0.0)
    with serving(second) as two:
        with serving(first) as one:
            fleet.name(one)
            asking = fleet.ask()
            until(lambda: first.requests > 4)
            fleet.name()
            until(lambda: any("no longer named" in line for line in fleet.told))
        time.sleep(0.5)
        assert asking.is_alive()
        fleet.place.write_text("[")  # half written: no reason to do anything
        until(lambda: any("begins as JSON" in line for line in fleet.told))
        fleet.name(two)
        asking.join(60)
    assert fleet.stats.requests == 30 == len(set(first.asked + second.asked))


def test_a_discovery_url_is_asked_again_and_again(store, spec, tmp_path):
    fleet = Fleet(store, spec, tmp_path, images=40)
    named = []

    class Directory(FakeServer):
        def app(self):
            app = web.Application()
            app.router.add_get("/engines", self.engines)
            return app

        async def engines(self, _):
            return web.Response(text=json.dumps(named))

    first, second = FakeServer(latency=0.1), FakeServer(latency=0.1)
    with ExitStack() as stack:
        one, two, directory = (stack.enter_context(serving(server)) for server in (first, second, Directory()))
        named.append(one)
        fleet.given = Endpoints(discovery=f"{directory}/engines")
        asking = fleet.ask()
        until(lambda: first.requests > 4)
        named.append(two)
        asking.join(60)
    assert second.requests > 4 and fleet.stats.requests == 40


def test_another_version_of_a_checked_server_is_turned_away(spec, tmp_path):
    from vip.captioning.ask import _admit

    checked = spec.model_copy(update={"model": spec.model.model_copy(update={"declared": False, "server": "vllm 1"})})
    with (
        serving(FakeServer(version="2")) as url,
        pytest.raises(VipError, match="runs vllm 2, the captions need vllm 1"),
    ):
        _admit(checked, "fake", url)
    with serving(FakeServer(version="1")) as url:
        _admit(checked, "fake", url)


def test_an_engine_that_comes_back_with_other_weights_ends_its_own_part_and_not_the_run(store, spec, tmp_path):
    fleet = Fleet(store, spec, tmp_path)
    staying, changing = FakeServer(latency=0.1), FakeServer(latency=0.1)

    async def restarted(_request, _body, number):
        """As vLLM answers who asks it for a model that it does not serve."""
        if number <= 5:
            return None
        changing.model = "another"
        return web.json_response({"error": {"message": "The model `fake` does not exist."}}, status=404)

    changing.faults.append(restarted)
    with serving(staying) as one, serving(changing) as two:
        fleet.name(one, two)
        fleet.ask().join(60)
    assert fleet.stats.requests == 60 == len(set(staying.asked + changing.asked))
    (told,) = [line for line in fleet.told if line.startswith("not used: ")]
    assert two in told and "does not exist" in told


def test_a_run_that_waits_for_engines_says_why_those_that_are_named_are_not_used(store, spec, tmp_path):
    fleet = Fleet(store, spec, tmp_path)
    with serving(FakeServer(model="another")) as url:
        fleet.name(url)
        with pytest.raises(VipError, match=f"no answer for .*endpoint {url} serves another"):
            ask(store, fleet.plan, fleet.given, tmp_path / "scratch", settings=replace(SETTINGS, stall=1))


def test_one_of_several_endpoints_that_is_down_stops_no_run_from_starting(tmp_path):
    down = "http://127.0.0.1:9"
    with serving(FakeServer()) as url:
        assert first_endpoint(Endpoints(urls=(down, url))) == url
        (tmp_path / "engines").write_text(f"{down}\n{url}\n")
        assert first_endpoint(Endpoints(file=str(tmp_path / "engines"))) == url
    with pytest.raises(VipError, match=f"{down}/v1/models does not answer.*{url}/v1/models does not answer"):
        first_endpoint(Endpoints(urls=(down, url)))


@pytest.mark.parametrize(
    ("other", "said"),
    [(FakeServer(version="2"), "runs vllm 2, the captions need vllm 1"), (FakeServer("another"), "serves another")],
    ids=["another version", "another model"],
)
def test_every_endpoint_of_a_list_is_checked_before_anything_is_asked(store, dataset, spec, tmp_path, other, said):
    checked = spec.model_copy(update={"model": ModelIdentity(id="fake", server="vllm 1")})
    plan = plan_captions(store, dataset, checked, BANK)
    right = FakeServer(version="1")
    with serving(right) as one, serving(other) as two:
        with pytest.raises(VipError, match=f"endpoint {two} {said}"):
            ask(store, plan, [one, two], tmp_path / "scratch", settings=SETTINGS)
        assert right.requests == other.requests == 0
        assert ask(store, plan, ["http://127.0.0.1:9", one], tmp_path / "scratch", settings=SETTINGS).requests == 24
