"""Several servers under one command: their ports are listed, a dead one is named, one Ctrl-C ends all."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from schemas.bank import Bank
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import captions_of, make_dataset, run
from vip.captioning.endpoint import ClientSettings
from vip.captioning.specs import resolve_spec
from vip.nano.dataset import write_scenes
from vip.serving.engine import find_serve_python
from vip.serving.replicas import share_devices

SCENES = 400
PROJECT = Path(__file__).resolve().parents[3]
STAND_IN = """
import sys
sys.path.insert(0, {project!r})
from aiohttp import web
from tests.fake_openai import FakeServer
given = dict(zip(sys.argv, sys.argv[1:]))
if "--refuse" in given:
    raise SystemExit("ValueError: no memory")
server = FakeServer(given["--served-model-name"])
web.run_app(server.app(), host="127.0.0.1", port=int(given["--port"]), access_log=None, print=None)
"""


@pytest.fixture
def serve(tmp_path):
    """Starts ``vip serve``, with a stand-in for vLLM's interpreter that answers as one unless another is given."""
    (tmp_path / "stand_in.py").write_text(STAND_IN.format(project=str(PROJECT)))
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "stand_in.py"} "$@"\n')
    stand_in.chmod(0o755)
    started = []

    def start(*arguments, python=stand_in):
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "serve", "--root", str(tmp_path / "root"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "VIP_SERVE_PYTHON": str(python)},
            # A shell that started us in the background has SIGINT ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _document(stream):
    text = ""
    for line in stream:
        text += line
        if line == "}\n":
            return json.loads(text)
    raise AssertionError(text)


def _until(ready, seconds=200):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_replicas_are_listed_the_dead_one_is_named_and_all_end_together(serve, tmp_path):
    kept = tmp_path / "engines"
    process = serve("--replicas", "3", "--endpoints-file", str(kept), "--json")
    told = _document(process.stdout)
    assert len(set(told["endpoints"])) == 3 and told["endpoint"] == told["endpoints"][0]
    assert kept.read_text().split() == told["endpoints"]
    tree = psutil.Process(process.pid).children(recursive=True)
    port = told["endpoints"][1].rpartition(":")[2]
    for victim in tree:
        if "stand_in.py" in " ".join(line := victim.cmdline()) and line[line.index("--port") + 1] == port:
            victim.send_signal(signal.SIGKILL)
    said = process.stderr.readline()
    assert said.startswith(f"vip: replica 2 of 3 ({told['endpoints'][1]}): vLLM ended with exit code 137")
    assert kept.read_text().split() == [told["endpoints"][0], told["endpoints"][2]]
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(200)
    _until(lambda: not any(one.is_running() for one in tree))
    assert kept.read_text() == ""


def test_several_servers_keep_one_file_of_endpoints(serve, tmp_path):
    kept = tmp_path / "new folder" / "engines"
    both = [serve("--endpoints-file", str(kept), "--json") for _ in range(2)]
    one, other = (_document(process.stdout)["endpoint"] for process in both)
    assert set(kept.read_text().split()) == {one, other}
    both[0].send_signal(signal.SIGINT)
    both[0].wait(200)
    assert kept.read_text().split() == [other] and both[1].poll() is None


def test_a_server_of_somebody_else_is_not_taken_for_ours(serve):
    with serving(FakeServer()) as url:
        process = serve("--port", url.rpartition(":")[2])
        said, why = process.communicate(timeout=60)
    assert process.returncode == 1 and "endpoint" not in said
    assert f"nothing can listen at {url.removeprefix('http://')}: Address already in use" in why


def test_one_that_does_not_start_ends_the_others_and_is_named(serve):
    process = serve("--replicas", "2", "--", "--refuse", "now")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "vip: replica " in said and "ended with exit code 1" in said and "no memory" in said


@pytest.mark.soak
@pytest.mark.timeout(1200)  # a minute and a half on a free machine, nearly all of it two vLLMs that start
def test_one_of_two_real_servers_is_killed_in_the_middle_and_nothing_is_lost(serve, store, tmp_path):
    """Two vLLMs share a run; what the dead one had in flight the other answers."""
    process = serve("--replicas", "2", "--json", python=find_serve_python())
    told = _document(process.stdout)
    doomed, other = told["endpoints"]
    write_scenes(tmp_path / "images", SCENES)
    dataset, spec = make_dataset(store, tmp_path / "images"), resolve_spec("nano-split", endpoint=doomed)
    tree, killed = psutil.Process(process.pid).children(recursive=True), []

    def kill(_what, done, total, _detail):
        if not killed and done >= total / 3:
            killed.append(_server_at(tree, doomed))
            os.killpg(os.getpgid(killed[0].pid), signal.SIGKILL)

    settings = ClientSettings()
    made, stats = run(
        store, dataset, spec, [doomed, other], tmp_path / "scratch", Bank(), 0, settings, on_progress=kill
    )
    assert killed and process.stderr.readline().startswith(
        f"vip: replica 1 of 2 ({doomed}): vLLM ended with exit code 137"
    )
    captions, rejects = captions_of(store, made)
    assert len({row["image_sha256"] for row in captions + rejects}) == len(captions + rejects) == SCENES
    assert not any(row["reason"] == "server_error" for row in rejects)
    assert stats.requests == 2 * SCENES == sum(stats.by_endpoint.values()) and min(stats.by_endpoint.values()) > 0
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert not psutil.wait_procs(tree, timeout=30)[1]


def _server_at(tree, endpoint):
    for one in tree:
        with contextlib.suppress(psutil.Error):
            line = one.cmdline()
            given = dict(pairwise(line))
            if given.get("--port") == endpoint.rpartition(":")[2] and "supervisor.py" not in " ".join(line):
                return one
    raise AssertionError(endpoint)


def test_gpus_are_shared_evenly(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,5")
    assert share_devices(2) == ["0,1", "2,3"]
    assert share_devices(5) == ["0", "1", "2", "3", "5"]
    assert share_devices(1) == [None] and share_devices(6) == [None] * 6
