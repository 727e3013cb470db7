"""Runs that happen by themselves: deployments, schedules, automations and a worker on a real Prefect server.

The tests of this file go through the life of one root in their order, like a season of nightly runs.
"""

import io
import os
import subprocess
import sys

import psutil
import pytest

from flows.server import prefect_server
from storage.refs import Refs
from storage.shards import read_samples
from tests.collector import collecting
from tests.flows._season import IMAGES, Season
from tests.relay import relaying

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def season(tmp_path_factory, engine):
    folder = tmp_path_factory.mktemp("deploy")
    server = prefect_server(folder / "prefect", folder / "server.log")
    with collecting() as webhook, relaying(engine.endpoint) as relay, server as url:
        yield Season(folder, url, relay, webhook)


@pytest.fixture(scope="module")
def worker(season):
    with season.worker() as running:
        yield running


def test_without_a_server_deploy_says_what_to_do(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "deploy", "--root", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**environment, "PREFECT_HOME": str(tmp_path)},
    )
    assert done.returncode == 1 and "prefect server start" in done.stderr


def test_deploying_twice_leaves_one_of_each(season):
    from prefect.automations import Automation

    first = season.vip("deploy", "--file", str(season.file))
    assert {row["name"] for row in first if row["what"] == "deployment"} == {
        "recaption",
        "retrain",
        "evaluate",
        "verify",
        "alarm",
    }
    assert [row["state"] for row in first if row["what"] == "automation"] == 3 * ["created"]
    second = season.vip("deploy", "--file", str(season.file))
    assert [row["state"] for row in second if row["what"] == "automation"] == 3 * ["updated"]
    assert sorted(one.name for one in season.client.read_automations()) == [
        "vip: mark dead runs as crashed",
        "vip: retrain on new captions",
        "vip: tell of crashed runs",
    ]
    zombies = Automation.read(name="vip: mark dead runs as crashed")
    assert zombies.trigger.within.total_seconds() == 3 * 30  # three heartbeats of the file


def test_the_cron_creates_scheduled_runs(season):
    nights = season.wait(lambda: season.scheduled("recaption"), "scheduled runs", 120)
    assert all((night.hour, night.minute) == (3, 0) for night in nights)
    assert all(one.weekday() == 6 for one in season.wait(lambda: season.scheduled("verify"), "scheduled runs", 120))


def test_a_run_that_fails_says_why_on_prefects_page_and_to_the_webhook(season, worker):
    dead = {**season.config, "caption": {**season.config["caption"], "endpoints": ["http://127.0.0.1:9"]}}
    run = season.trigger("recaption/recaption", config=dead)
    assert season.over(run).type.value == "FAILED"
    told = season.told(run)
    assert told["flow"] == "recaption" and told["state"] == "Failed" and "127.0.0.1:9" in told["reason"]


def test_a_trigger_during_a_run_is_cancelled_and_new_captions_retrain_by_themselves(season, worker):
    with season.relay.holding():
        running = season.trigger("recaption/recaption")
        season.wait(season.relay.held.is_set, "recaption to ask")
        second = season.trigger("recaption/recaption")
        assert season.over(second).type.value == "CANCELLED"
        assert season.state(running).name == "Running"
    assert season.over(running).type.value == "COMPLETED"
    assert len(season.asked()) == IMAGES or season.runs("retrain")  # the retraining may have begun to imagine

    (retrain,) = season.wait(lambda: season.runs("retrain"), "retrain to be started")
    assert season.over(retrain).type.value == "COMPLETED"
    (promotion,) = season.promotions()
    assert promotion.stats["reasons"] == ["nothing was promoted before"]
    promoted = Refs(season.store.backend).get("promoted/scenes")
    assert promoted == Refs(season.store.backend).get("checkpoint/scenes") is not None
    assert promotion.run.id == str(retrain.id)


def test_a_killed_worker_leaves_a_crashed_run_and_the_next_one_finishes_its_work(season, worker):
    before, promoted = len(season.asked()), Refs(season.store.backend).get("promoted/scenes")
    changed = sorted(season.images.iterdir())[3]
    changed.write_bytes(changed.read_bytes() + b"\0")  # other bytes, so another image
    recaption = season.trigger("recaption/recaption")
    assert season.over(recaption).type.value == "COMPLETED"
    killed = season.wait(lambda: season.runs("retrain")[1:], "retrain to be started again")[0]
    season.wait(lambda: (season.root / "scratch" / "logs" / str(killed.id) / "train.log").exists(), "training")
    # As where the machine is gone: the worker, the run and the trainer end at once and tell nobody.
    for process in psutil.Process(worker.pid).children(recursive=True):
        process.kill()
    assert season.state(killed).name == "Running"

    with season.worker():
        # By hand, and with a person's word before anything is promoted. It waits, for the dead run holds the one place.
        lenient = {"metrics": ["psnr_known_unpasted"], "margins": {"psnr_known_unpasted": 1000}}
        config = {**season.config, "promote": lenient}
        unheard = season.trigger("retrain/retrain", config=config | {"approval": {"hours": 0.001}})
        assert season.over(season.trigger("verify/verify")).type.value == "COMPLETED"
        state = season.over(killed)
        assert state.type.value == "CRASHED" and "no heartbeat for 90 s" in state.message
        # It could not tell so itself: another run did, with the last lines of its trainer.
        told = season.told(killed)
        assert told["flow"] == "retrain" and "no heartbeat" in told["reason"] and "train.log" in told["logs"]
        assert season.over(unheard).type.value == "FAILED"
        assert "nobody said within 0.001 h" in season.told(unheard)["reason"]
        following = season.trigger("retrain/retrain", config=config | {"approval": {"hours": 1}})
        (asks,) = season.wait(lambda: season.paused(), "a person to be asked")
        assert Refs(season.store.backend).get("promoted/scenes") == promoted and len(season.promotions()) == 1
        # While it waits the run keeps its place; Prefect ends a run that has lost it.
        assert season.state(following).name == "Running" and season.places_taken("retrain/retrain") == 1
        season.resume(asks, {"approve": False, "by": "Ada", "note": "the skies are flat"})
        state = season.over(following)
        assert state.type.value == "COMPLETED", state.message
    asked = season.asked()
    assert len(asked) == len(set(asked)) == before + 2  # the one new image, once for each spec
    _, second = season.promotions()
    assert second.run.id == str(following.id)
    # The promoted checkpoint sat the new exam too: one image of it is another.
    assert season.store.require(second.inputs["incumbent"]).inputs["checkpoint"] == promoted
    measured, said = second.stats["reasons"]
    assert measured.startswith("psnr_known_unpasted (oracle) ") and said == "refused by Ada: the skies are flat"
    kept = Refs(season.store.backend)
    assert kept.get("promoted/scenes") == promoted != kept.get("checkpoint/scenes")


def test_after_a_takedown_a_nightly_run_over_the_same_folder_does_not_bring_the_image_back(season):
    from PIL import Image

    image = sorted(season.images.iterdir())[5]
    data, pixels = image.read_bytes(), Image.open(image).convert("RGB").tobytes()
    asked = season.asked()
    record = season.vip("forget", str(image), "--reason", "its owner asked", "--by", "Ada")
    assert {one["kind"] for one in record["erased"]} >= {"shard"} and record["checkpoints"] and record["captions"]
    with season.worker():
        recaption = season.trigger("recaption/recaption")
        assert season.over(recaption).type.value == "COMPLETED"
        assert season.over(season.trigger("verify/verify")).type.value == "COMPLETED"
    assert image.read_bytes() == data  # the folder is not ours
    assert [path for path in season.root.rglob("*") if path.is_file() and data in path.read_bytes()] == []
    for tar in season.root.glob("artifacts/shard/*/*/samples.tar"):
        for sample in read_samples(str(tar)):
            assert Image.open(io.BytesIO(sample.data)).convert("RGB").tobytes() != pixels
    assert sorted(season.asked()) == sorted(asked)  # what is left was answered before
