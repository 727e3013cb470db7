"""Runs that happen by themselves: deployments, schedules, automations and a worker on a real Prefect server.

The tests of this file go through the life of one root in their order, like a season of nightly runs.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from flows.server import prefect_server
from schemas.tables import ANSWERS
from storage.refs import Refs
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.nano.dataset import write_scenes
from vip.processes import OwnedProcess

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1500)]
PROJECT = Path(__file__).resolve().parents[2]
IMAGES = 24
CONFIG = {
    "shard": {"name": "scenes", "bits": 1, "test_share": 0.2},
    "caption": {"gate": {"leak_share": 1.0}},
    "train": {"steps": 6, "warmup": 1, "batch": 4},
    "evaluate": {"settings": ["oracle", "centre_only"], "images": 8, "steps": 2},
}


class Season:
    """One root, its deployments on one server, and what can be asked of them."""

    def __init__(self, folder, url, endpoint):
        from prefect.client.orchestration import get_client

        self.folder, self.root, self.url, self.images = folder, folder / "root", url, folder / "images"
        self.client = get_client(sync_client=True)
        self.store = ArtifactStore(self.root)
        write_scenes(self.images, IMAGES)
        self.config = {**CONFIG, "source": str(self.images)}
        self.config["caption"] = {**CONFIG["caption"], "endpoints": [endpoint]}
        self.file = self._file()

    def _file(self):
        """The project's own deployments, with our config and the quickest heartbeat that Prefect allows."""
        told = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
        for one in told["deployments"]:
            if "config" in one["parameters"]:
                one["parameters"]["config"] = self.config
            one["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = "30"
        path = self.folder / "deployments.yaml"
        path.write_text(yaml.safe_dump(told, sort_keys=False))
        return path

    def vip(self, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments, "--root", str(self.root), "--json"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PREFECT_API_URL": self.url},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def worker(self):
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "vip", "--type", "process"]
        environment = {**os.environ, "PREFECT_API_URL": self.url, "PREFECT_WORKER_QUERY_SECONDS": "2"}
        return OwnedProcess(command, self.folder / "worker.log", environment)

    def trigger(self, name, **parameters):
        deployment = self.client.read_deployment_by_name(name)
        return self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters)

    def runs(self, name):
        """Runs of a deployment that are or were due, the first one first."""
        from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

        wanted = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
        found = self.client.read_flow_runs(deployment_filter=wanted, limit=200)
        return sorted((run for run in found if not run.auto_scheduled), key=lambda run: run.created)

    def scheduled(self, name):
        from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

        wanted = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
        found = self.client.read_flow_runs(deployment_filter=wanted, limit=200)
        return [run.expected_start_time for run in found if run.auto_scheduled]

    def state(self, run):
        return self.client.read_flow_run(run.id).state

    def wait(self, ready, what, seconds=600):
        """Ask until the answer is true; it is returned."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := ready():
                return found
            time.sleep(0.5)
        log = self.folder / "worker.log"
        raise AssertionError(f"waited too long for {what}:\n{log.read_text()[-4000:] if log.exists() else ''}")

    def over(self, run):
        """The final state of a run."""
        return self.wait(lambda: (state := self.state(run)).is_final() and state, f"run {run.name}")

    def asked(self):
        """Ids of all requests that were answered."""
        return [
            request
            for path in self.root.glob("answers/**/*.parquet")
            for request in read_table(path, ANSWERS).column("request_id").to_pylist()
        ]

    def promotions(self):
        return sorted(self.store.list("promotion"), key=lambda one: one.run.finished)


@pytest.fixture(scope="module")
def season(tmp_path_factory, engine):
    folder = tmp_path_factory.mktemp("deploy")
    with pytest.MonkeyPatch.context() as patch, prefect_server(folder / "prefect", folder / "server.log") as url:
        patch.setenv("PREFECT_API_URL", url)
        yield Season(folder, url, engine.endpoint)


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
    }
    assert [row["state"] for row in first if row["what"] == "automation"] == ["created", "created"]
    second = season.vip("deploy", "--file", str(season.file))
    assert [row["state"] for row in second if row["what"] == "automation"] == ["updated", "updated"]
    standing = season.client.read_automations()
    assert sorted(one.name for one in standing) == ["vip: mark dead runs as crashed", "vip: retrain on new captions"]
    zombies = Automation.read(name="vip: mark dead runs as crashed")
    assert zombies.trigger.within.total_seconds() == 3 * 30  # three heartbeats of the file


def test_the_cron_creates_scheduled_runs(season):
    nights = season.wait(lambda: season.scheduled("recaption"), "scheduled runs", 120)
    assert all((night.hour, night.minute) == (3, 0) for night in nights)
    assert all(one.weekday() == 6 for one in season.wait(lambda: season.scheduled("verify"), "scheduled runs", 120))


def test_a_trigger_during_a_run_is_cancelled_and_new_captions_retrain_by_themselves(season, worker):
    running = season.trigger("recaption/recaption")
    season.wait(lambda: season.state(running).name == "Running", "recaption to start")
    second = season.trigger("recaption/recaption")
    assert season.over(second).type.value == "CANCELLED"
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
        config = {**season.config, "promote": lenient, "approval": {"hours": 1}}
        following = season.trigger("retrain/retrain", config=config)
        assert season.over(season.trigger("verify/verify")).type.value == "COMPLETED"
        state = season.over(killed)
        assert state.type.value == "CRASHED" and "no heartbeat for 90 s" in state.message
        season.wait(lambda: season.state(following).name == "Paused", "a person to be asked")
        season.client.resume_flow_run(
            following.id, run_input={"approve": False, "by": "Ada", "note": "the skies are flat"}
        )
        assert season.over(following).type.value == "COMPLETED"
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
