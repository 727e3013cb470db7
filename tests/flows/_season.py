"""A season of nightly runs: one root, its deployments on a real Prefect server, and what can be asked of them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from flows.alarm import WEBHOOK
from schemas.tables import ANSWERS
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.nano.dataset import write_scenes
from vip.processes import OwnedProcess

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

    def __init__(self, folder, url, relay, webhook):
        from prefect.client.orchestration import get_client

        self.folder, self.root, self.url, self.images = folder, folder / "root", url, folder / "images"
        self.relay, (self.webhook, self.heard) = relay, webhook
        self.client = get_client(sync_client=True)
        self.store = ArtifactStore(self.root)
        write_scenes(self.images, IMAGES)
        self.config = {**CONFIG, "source": str(self.images)}
        self.config["caption"] = {**CONFIG["caption"], "endpoints": [relay.url]}
        self.file = self._file()

    def _file(self):
        """The project's own deployments, with our config and the quickest heartbeat that Prefect allows."""
        told = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
        for one in told["deployments"]:
            if "config" in one.get("parameters", {}):
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
        environment[WEBHOOK] = self.webhook
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

    def paused(self):
        """Runs that wait for a person."""
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName

        waiting = FlowRunFilterState(name=FlowRunFilterStateName(any_=["Paused"]))
        return self.client.read_flow_runs(flow_run_filter=FlowRunFilter(state=waiting))

    def resume(self, run, said):
        """Answer for a person; a run is Paused for a moment before Prefect knows what may be answered."""
        self.wait(lambda: self.client.resume_flow_run(run.id, run_input=said).status.value == "ACCEPT", "the answer")

    def places_taken(self, name):
        """Places under a deployment's concurrency limit that are held."""
        return self.client.read_deployment_by_name(name).global_concurrency_limit.active_slots

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

    def told(self, run):
        """What Prefect's page and the webhook say of the end of a run; they say the same, once."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        def both():
            of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            shown = [one for one in self.client.read_artifacts(artifact_filter=of_run) if one.key == "failure"]
            return shown, [body for _, body in self.heard if body["run"] == str(run.id)]

        (shown,), (heard,) = self.wait(lambda: all(found := both()) and found, f"{run.name} to be told of")
        assert shown.data.startswith(f"**{heard['state']}**: {heard['reason']}")
        assert all(name in shown.data and text in shown.data for name, text in heard["logs"].items())
        return heard

    def asked(self):
        """Ids of all requests that were answered."""
        return [
            request
            for path in self.root.glob("answers/**/*.parquet")
            for request in read_table(path, ANSWERS).column("request_id").to_pylist()
        ]

    def promotions(self):
        return sorted(self.store.list("promotion"), key=lambda one: one.run.finished)
