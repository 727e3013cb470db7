"""``vip deploy``: schedules, deployments and automations on a Prefect server."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from flows.cli.common import print_json, print_table, shared_options

_PROJECT = Path(__file__).resolve().parents[2]


@click.command()
@click.option("--work-pool", default="vip", show_default=True, help="Work pool to deploy to; made where missing.")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=_PROJECT / "prefect.yaml",
    help="Deployment file; by default the checkout's prefect.yaml. Paths in it start at the checkout.",
)
@shared_options
def command(work_pool: str, path: Path, root: str, as_json: bool) -> None:
    """Create or update the deployments of prefect.yaml and the automations; running it twice changes nothing.

    Needs a Prefect server (PREFECT_API_URL) and a checkout of the project; a worker then runs what is due:
    `prefect worker start --pool vip`.
    """
    from flows.server import QUIET, configured_url, trouble_in_one_line
    from schemas.errors import VipError

    url = configured_url()
    if url is None:
        raise VipError("no Prefect server is configured", "start one with `prefect server start`, set PREFECT_API_URL")
    if not path.is_file():
        raise VipError(f"there is no {path}", "run `vip deploy` from a checkout of the project, or give --file")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    names, silence = _check(path)
    with trouble_in_one_line(url):
        _make_pool(work_pool)
    absolute = root if "://" in root else str(Path(root).resolve())
    environment = {**os.environ, "PWD": str(_PROJECT), "VIP_ROOT": absolute, "VIP_POOL": work_pool}
    done = subprocess.run(  # noqa: S603 - our own command, no shell
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path.resolve())],
        cwd=_PROJECT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-3:]
        raise VipError(f"prefect deploy failed: {' | '.join(why)}", "is the server reachable?")
    with trouble_in_one_line(url):
        rows = [*_deployments(names), *_automations(silence)]
    if as_json:
        print_json([{"what": what, "name": name, "state": state} for what, name, state in rows])
        return
    print_table(rows)
    click.echo(f"\nnext  prefect worker start --pool {work_pool}")


_STARTED = ("retrain", "alarm")
"""Deployments that the automations start."""


def _check(path: Path) -> tuple[list[str], int]:
    """Validate the configs in a deployment file: a schedule that fails every night is worse than an error now.

    Returns:
        The names of its deployments, and the seconds without a heartbeat after which a run counts as dead: three times
        the slowest heartbeat in the file.
    """
    from pydantic import BaseModel

    from flows.automations import HEARTBEAT_LEAST, HEARTBEAT_SECONDS, HEARTBEAT_VARIABLE
    from flows.cli.common import validated
    from schemas.errors import VipError
    from schemas.evaluate_run import EvaluateRun
    from schemas.retrain_config import RetrainConfig
    from schemas.runner import Runner
    from storage.yaml_file import read_yaml

    models: dict[str, type[BaseModel]] = {"config": RetrainConfig, "run": EvaluateRun, "runner": Runner}
    names, heartbeats = [], []
    raw = read_yaml(path, "deployment file")
    deployments = raw.get("deployments") if isinstance(raw, dict) else None
    if not deployments or not isinstance(deployments, list) or not all(isinstance(one, dict) for one in deployments):
        raise VipError(f"{path} holds no list of deployments", "start from the checkout's prefect.yaml")
    for deployment in deployments:
        names.append(str(deployment.get("name")))
        where = f"{path.name}, deployment {names[-1]}"
        variables = _mapping(where, deployment, "work_pool", "job_variables", "env")
        try:
            heartbeats.append(int(str(variables.get(HEARTBEAT_VARIABLE, HEARTBEAT_SECONDS))))
        except ValueError:
            raise VipError(f"{where}: {HEARTBEAT_VARIABLE} is no number", "give whole seconds, such as 30") from None
        if heartbeats[-1] < HEARTBEAT_LEAST:
            reason = f"{where}: {HEARTBEAT_VARIABLE} is {heartbeats[-1]}, with which no run starts"
            raise VipError(reason, f"Prefect allows no less than {HEARTBEAT_LEAST}")
        parameters = _mapping(where, deployment, "parameters")
        _check_parameters(where, deployment, parameters)
        for name, model in models.items():
            if name in parameters:
                validated(model, where, **_mapping(where, parameters, name))
    if missing := [name for name in _STARTED if name not in names]:
        raise VipError(
            f"{path} has no deployment {missing[0]}, which the automations start",
            "take it from the checkout's prefect.yaml; without a schedule it runs when it is asked for",
        )
    return names, 3 * max(heartbeats)


def _check_parameters(where: str, deployment: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Compare the names of parameters with those of the flow, where it is one of ours.

    Raises:
        VipError: where the flow has no such parameter, or is started by itself and lacks one.
    """
    from schemas.errors import VipError

    place, _, name = str(deployment.get("entrypoint", "")).partition(":")
    if not (Path(place).parent == Path("flows") and place.endswith(".py") and (_PROJECT / place).is_file()):
        return
    found = getattr(importlib.import_module(f"flows.{Path(place).stem}"), name, None)
    if found is None or not hasattr(found, "parameters"):
        raise VipError(f"{where}: {place} has no flow {name}", "take the entrypoint from the checkout's prefect.yaml")
    takes = found.parameters
    if unknown := sorted(parameters.keys() - takes.properties.keys()):
        known = ", ".join(takes.properties)
        raise VipError(f"{where}: flow {name} takes no parameter {unknown[0]}", f"give one of {known}")
    by_itself = deployment.get("schedules") or deployment.get("schedule") or name == "retrain"
    if by_itself and (missing := [one for one in takes.required or [] if one not in parameters]):
        raise VipError(f"{where}: parameter {missing[0]} is missing", "nobody gives it when the run starts by itself")


def _mapping(where: str, values: dict[str, Any], *path: str) -> dict[str, Any]:
    """The mapping under the names of ``path``; what is left empty holds nothing.

    Raises:
        VipError: where something else stands there.
    """
    from schemas.errors import VipError

    for number, name in enumerate(path, 1):
        values = values.get(name) or {}
        if not isinstance(values, dict):
            raise VipError(f"{where}: {'.'.join(path[:number])} is no mapping", "give names with their values")
    return values


def _make_pool(name: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        except ObjectAlreadyExists:
            return


def _deployments(names: list[str]) -> list[tuple[str, str, str]]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    with get_client(sync_client=True) as client:
        wanted = DeploymentFilter(name=DeploymentFilterName(any_=names))
        found = sorted(client.read_deployments(deployment_filter=wanted), key=lambda one: names.index(one.name))
    return [
        ("deployment", one.name, ", ".join(getattr(it.schedule, "cron", "") for it in one.schedules) or "by hand")
        for one in found
    ]


def _automations(silence: float) -> list[tuple[str, str, str]]:
    from prefect.client.orchestration import get_client

    from flows.automations import automations, put_automation

    with get_client(sync_client=True) as client:
        retrain, alarm = (client.read_deployment_by_name(name).id for name in ("retrain/retrain", "alarm/alarm"))
    return [("automation", str(one.name), put_automation(one)) for one in automations(retrain, alarm, silence)]
