"""Deployments on a real Prefect server: created once, scheduled, run by a real worker."""

import json
import os
import subprocess
import sys
import time

import pytest

from flows.server import prefect_server
from schemas.manifest import Recipe
from storage.store import ArtifactStore
from vip.processes import OwnedProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy")
    with pytest.MonkeyPatch.context() as patch, prefect_server(folder / "prefect", folder / "server.log") as url:
        patch.setenv("PREFECT_API_URL", url)
        yield folder, url


def vip(folder, url, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "--root", str(folder / "root"), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PREFECT_API_URL": url},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def prefect(url, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PREFECT_API_URL": url},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


def test_deploying_twice_leaves_one_of_each(server):
    folder, url = server
    first = vip(folder, url, "deploy")
    assert {row["name"] for row in first if row["what"] == "deployment"} == {
        "recaption",
        "retrain",
        "evaluate",
        "verify",
    }
    assert [row["state"] for row in first if row["what"] == "automation"] == ["created", "created"]
    second = vip(folder, url, "deploy")
    assert [row["state"] for row in second if row["what"] == "automation"] == ["updated", "updated"]
    assert prefect(url, "automation", "ls").count("vip: retrain") == 1


def test_a_worker_runs_a_deployment_and_the_cron_schedules_runs(server):
    folder, url = server
    store = ArtifactStore(folder / "root")
    store.build(Recipe(kind="shard", stage="test"), lambda out: (out / "a").write_text("a") and {})
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "vip", "--type", "process"]
    with OwnedProcess(command, folder / "worker.log", {**os.environ, "PREFECT_API_URL": url}):
        with _client() as client:
            verify = client.read_deployment_by_name("verify/verify")
            run = client.create_flow_run_from_deployment(verify.id)
        state = _wait_for(run.id)
    assert state == "COMPLETED", (folder / "worker.log").read_text()[-2000:]
    assert _scheduled("recaption") >= 1


def _client():
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def _wait_for(run_id, seconds=180):
    deadline = time.monotonic() + seconds
    with _client() as client:
        while time.monotonic() < deadline:
            state = client.read_flow_run(run_id).state
            if state.is_final():
                return state.type.value
            time.sleep(1)
    return "still running"


def _scheduled(name, seconds=90):
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    deadline = time.monotonic() + seconds
    with _client() as client:
        while time.monotonic() < deadline:
            wanted = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
            found = client.read_flow_runs(deployment_filter=wanted)
            if found:
                return len(found)
            time.sleep(2)
    return 0
