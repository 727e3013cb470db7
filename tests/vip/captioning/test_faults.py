"""Servers that fail in every way: nothing lost, nothing doubled, and an error that names the cause."""

import asyncio
import hashlib
import random
import signal
import subprocess
import sys
import time

import pytest
from aiohttp import web

from schemas.errors import VipError
from storage.answers import Answers
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import BANK, QUICK, captions_of, make_dataset, make_spec, run, write_images
from vip.captioning.ask import ask
from vip.captioning.endpoint import ClientSettings
from vip.captioning.plan import plan_captions
from vip.processes import free_port


def sometimes(share, answer):
    """A fault that strikes a share of the requests, never the same body three times."""
    seen: dict[str, int] = {}
    dice = random.Random(0)

    async def fault(request, body, number):
        digest = hashlib.sha256(body).hexdigest()
        if seen.get(digest, 0) < 2 and dice.random() < share:
            seen[digest] = seen.get(digest, 0) + 1
            return await answer(request)
        return None

    return fault


async def too_many(request):
    return web.Response(status=429, headers={"Retry-After": "0"}, text="slow down")


async def broken(request):
    return web.json_response({"error": {"message": "boom"}}, status=500)


async def reset(request):
    request.transport.abort()
    return web.Response()


async def hang(request):
    await asyncio.sleep(30)
    return web.Response()


async def half_a_body(request):
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    request.transport.close()
    return response


async def no_json(request):
    return web.Response(text="<html>gateway</html>")


async def no_choices(request):
    return web.json_response({"choices": []})


@pytest.mark.parametrize(
    "answer", [too_many, broken, reset, half_a_body, no_json, no_choices], ids=lambda answer: answer.__name__
)
def test_nothing_is_lost_or_doubled(store, dataset, spec, server, endpoint, scratch, answer):
    calm, _ = run(store, dataset, spec, [endpoint], scratch / "calm")
    expected = {ref.digest for ref in calm.inputs.values()}
    other = type(store)(str(store.backend.root) + "-faults")
    make_dataset(other, scratch.parent / "images")
    server.faults.append(sometimes(0.5, answer))
    made, stats = run(other, dataset, spec, [endpoint], scratch)
    assert {ref.digest for ref in made.inputs.values()} == expected
    assert stats.requests == 24 and stats.retries + stats.throttled > 0
    segments = Answers(other.backend, spec.answers_id).segments("")
    assert sum(segment.rows for segment in segments) == 24


def test_a_hanging_request_is_asked_again_after_its_deadline(store, dataset, spec, server, endpoint, scratch):
    server.faults.append(sometimes(0.4, hang))
    settings = ClientSettings(deadline=0.5, dead_after=5, poll=0.1)
    made, stats = run(store, dataset, spec, [endpoint], scratch, settings=settings)
    assert made.stats["captions"] + made.stats["rejected"] == 24 and stats.retries > 0


def test_a_poison_row_is_rejected_alone_and_points_to_its_answer(store, dataset, spec, server, endpoint, scratch):
    poison = []

    async def fault(request, body, number):
        poison.append(body) if not poison else None
        return await broken(request) if body == poison[0] else None

    server.faults.append(fault)
    made, _ = run(store, dataset, spec, [endpoint], scratch)
    captions, rejects = captions_of(store, made)
    assert len(rejects) == 1 and len(captions) + len(rejects) == 24
    assert rejects[0]["reason"] == "server_error" and rejects[0]["raw"] == ["500: boom"]
    assert rejects[0]["request_ids"][0] in Answers(store.backend, spec.answers_id).look_up("")


def test_a_request_that_the_server_refuses_is_its_last_word(store, dataset, spec, server, endpoint, scratch):
    first = []

    async def fault(request, body, number):
        first.append(body) if not first else None
        if body == first[0]:
            return web.json_response({"error": {"message": "image is corrupt"}}, status=400)
        return None

    server.faults.append(fault)
    made, _ = run(store, dataset, spec, [endpoint], scratch)
    _, rejects = captions_of(store, made)
    assert [row["detail"] for row in rejects] == ["400: image is corrupt"]
    assert server.requests == 24


def test_an_unknown_model_ends_the_run_with_its_reason(store, dataset, spec, server, endpoint, scratch):
    async def fault(request, body, number):
        return web.json_response({"error": {"message": "The model `x` does not exist."}}, status=404)

    server.faults.append(fault)
    with pytest.raises(VipError, match="does not know the model"):
        run(store, dataset, spec, [endpoint], scratch)


def test_answers_of_another_model_are_not_taken(store, dataset, tokenizer, scratch):
    from schemas.spec import ModelIdentity

    spec = make_spec(tokenizer, model=ModelIdentity(id="fake", revision="a" * 64, server="vllm 0"))
    with serving(FakeServer(model="fake@bbbb")) as url, pytest.raises(VipError, match="answers as fake@bbbb"):
        run(store, dataset, spec, [url], scratch)
    assert not Answers(store.backend, spec.answers_id).look_up("")


def test_one_of_two_endpoints_may_die(store, spec, scratch, tmp_path):
    dataset = make_dataset(store, write_images(tmp_path / "many", 200))
    living = FakeServer(latency=0.02)
    port = free_port()
    command = [sys.executable, "-m", "tests.fake_openai", "--port", str(port), "--latency", "0.02"]
    dying = subprocess.Popen(command)
    try:
        wait_for(port)
        with serving(living) as url:

            def kill(what, done, total, detail):
                if done > 20:
                    dying.send_signal(signal.SIGKILL)

            settings = ClientSettings(deadline=2, dead_after=1, poll=0.1, first_in_flight=4, most_in_flight=4)
            ends = [url, f"http://127.0.0.1:{port}"]
            made, stats = run(store, dataset, spec, ends, scratch, settings=settings, on_progress=kill)
    finally:
        dying.kill()
        dying.wait()
    assert made.stats["captions"] + made.stats["rejected"] == 200 == stats.requests
    assert made.stats["reasons"].get("server_error") is None
    assert all(count > 0 for count in stats.by_endpoint.values())


def test_with_all_endpoints_dead_it_ends_soon_and_keeps_what_it_has(store, spec, scratch, tmp_path):
    dataset = make_dataset(store, write_images(tmp_path / "many", 400))
    port = free_port()
    dying = subprocess.Popen(
        [sys.executable, "-m", "tests.fake_openai", "--port", str(port), "--latency", "0.05", "--capacity", "100"]
    )
    killed = []
    try:
        wait_for(port)

        def kill(what, done, total, detail):
            if done > 30 and not killed:
                killed.append((done, time.monotonic()))
                dying.send_signal(signal.SIGKILL)

        plan = plan_captions(store, dataset, spec, BANK, scratch=scratch)
        with pytest.raises(VipError, match=r"no endpoint answers any more: http://127.0.0.1.*run again"):
            ask(store, plan, [f"http://127.0.0.1:{port}"], scratch, on_progress=kill)
    finally:
        dying.kill()
        dying.wait()
    assert time.monotonic() - killed[0][1] < 30
    plan = plan_captions(store, dataset, spec, BANK)
    assert plan.up_to_date >= killed[0][0]


def test_a_server_of_our_own_that_died_is_named_at_once(store, dataset, spec, scratch):
    def watch():
        raise VipError("vLLM ended with exit code 137: Killed", "see its log")

    plan = plan_captions(store, dataset, spec, BANK)
    with pytest.raises(VipError, match="exit code 137"):
        ask(store, plan, [f"http://127.0.0.1:{free_port()}"], scratch, watch=watch, settings=QUICK)


def test_an_image_that_cannot_be_decoded_costs_one_row(store, tokenizer, scratch, tmp_path, endpoint, monkeypatch):
    import vip.captioning.request as request

    folder = write_images(tmp_path / "images", 12)
    dataset = make_dataset(store, folder)
    spec = make_spec(tokenizer, strategy="imagine")
    victim = hashlib.sha256((folder / "0-00003.png").read_bytes()).hexdigest()
    render = request.rendered_url

    def broken_render(data, *rest):
        if hashlib.sha256(data).hexdigest() == victim:
            raise OSError("broken data stream")
        return render(data, *rest)

    monkeypatch.setattr(request, "rendered_url", broken_render)
    made, _ = run(store, dataset, spec, [endpoint], scratch)
    _, rejects = captions_of(store, made)
    assert [(row["image_sha256"], row["reason"]) for row in rejects] == [(victim, "undecodable_image")]


def wait_for(port):
    import socket

    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the fake server did not start")
