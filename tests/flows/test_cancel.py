"""A run cancelled from Prefect's page, as through its API: 20 s later no vLLM, trainer or worker process is left."""

import os
import time
from types import SimpleNamespace

import psutil
import pytest

from flows.server import prefect_server
from tests.collector import collecting
from tests.fake_openai import FakeServer, serving
from tests.flows._season import Season
from vip.captioning.specs import resolve_spec
from vip.nano.dataset import write_scenes

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
ALLOWED = 20.0
IMAGES = 200  # captioning and training have to last longer than it takes to see that they go on
LENIENT = dict.fromkeys(("rejected", "refused", "cut", "short", "repeated", "duplicated", "leaking"), 1.0)


@pytest.fixture(scope="module")
def season(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cancel")
    with prefect_server(folder / "prefect", folder / "server.log") as url, collecting() as webhook:
        made = Season(folder, url, SimpleNamespace(url="http://127.0.0.1:9"), webhook)
        write_scenes(made.images, IMAGES)
        made.config["caption"] = {"gate": LENIENT}
        made.file = made._file()
        made.vip("deploy", "--file", str(made.file))
        with made.worker() as running:
            made.process = psutil.Process(running.pid)
            yield made


def _below(season):
    """Every process under Prefect's worker, but the worker itself."""
    (worker,) = season.process.children()
    return worker.children(recursive=True)


def _cancel(season, run):
    """Cancel as the page does; returns what had run, and how many seconds the last of it lived on."""
    from prefect.states import Cancelling

    before = _below(season)
    season.client.set_flow_run_state(run.id, Cancelling(), force=False)
    start = time.monotonic()
    season.wait(lambda: not any(one.is_running() for one in before), "the processes to end", 120)
    return before, time.monotonic() - start


def _cancelled(season, run):
    """The dying flow may report a crash; Prefect's runner, which ended it, has the last word."""
    season.wait(lambda: season.state(run).type.value == "CANCELLED", "the run to be cancelled", 120)
    assert season.heard == []  # nobody is called up for it


def _commands(processes):
    found = []
    for one in processes:
        try:
            found.append(" ".join(one.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return found


def test_cancelled_while_captioning_with_a_vllm_of_its_own(season):
    run = season.trigger("retrain/retrain", config=season.config)
    running = []

    def captioning():
        running[:] = _commands(_below(season))
        return any("vllm.entrypoints" in line for line in running) and any(season.root.glob("answers/*/*/*.json"))

    season.wait(captioning, "the first answers", 900)
    before, seconds = _cancel(season, run)
    print(f"\ncaptioning: {len(before)} processes gone {seconds:.1f} s after the cancel")
    assert len(before) >= 3 and seconds < ALLOWED
    _cancelled(season, run)


def test_cancelled_while_two_processes_train(season):
    identity = resolve_spec("nano-joint").model
    server = FakeServer(f"{identity.id}@{identity.revision[:16]}", version=identity.server.removeprefix("vllm "))
    train = {"steps": 100_000, "warmup": 1, "batch": 2, "processes": 2, "log_every": 1}
    with serving(server) as url:
        caption = {"gate": LENIENT, "endpoints": [url]}
        run = season.trigger("retrain/retrain", config={**season.config, "caption": caption, "train": train})

        def training():
            trainers = [line for line in _commands(_below(season)) if "vip.diffusion.train" in line]
            logs = season.root.glob("scratch/logs/*/train.log")
            return len(trainers) >= 4 and any(logs)  # supervisor, torchrun and two processes

        season.wait(training, "the training", 900)
        time.sleep(float(os.environ.get("VIP_TEST_SETTLE", "20")))
        before, seconds = _cancel(season, run)
    print(f"\ntraining: {len(before)} processes gone {seconds:.1f} s after the cancel")
    assert len(before) >= 5 and seconds < ALLOWED
    _cancelled(season, run)
