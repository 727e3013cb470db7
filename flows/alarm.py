"""Alarm: a run that failed or crashed says why, on Prefect's page and to a webhook."""

import logging
import os
from typing import Any
from uuid import UUID

import httpx
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)

from flows.run import scratch_folder
from vip.processes import last_lines

WEBHOOK = "VIP_WEBHOOK"
"""Environment variable with the URL that is told; it may hold a secret, so it stands in no config and no manifest."""

_KEY = "failure"
_SECONDS = 10.0
_LINES = 5
log = logging.getLogger(__name__)


def raise_alarm(flow: Any, flow_run: Any, state: Any) -> None:
    """Hook of Prefect's ``on_failure`` and ``on_crashed``.

    Shows state, reason and the last lines of the run's server and trainer logs as an artifact of the run, and posts the
    same as JSON to the URL in ``VIP_WEBHOOK``. A webhook that does not answer is logged and stops nothing. A run that
    somebody cancelled reports a crash when it is ended, before Prefect calls it cancelled: that is no alarm.
    """
    if _was_cancelled(flow_run.id):
        return
    told = describe(flow.name, flow_run, state)
    # First, because the next step fails where it is Prefect's server that is in trouble.
    if url := os.environ.get(WEBHOOK):
        post(url, told)
    logs = "".join(f"\n\n**{name}**\n\n```\n{text}\n```" for name, text in told["logs"].items())
    shown = ArtifactCreate(
        key=_KEY,
        type="markdown",
        description=f"Why {told['flow']} ended",
        data=f"**{told['state']}**: {told['reason']}{logs}",
        flow_run_id=flow_run.id,
    )
    # By the client: `MarkdownArtifact.create` warns on the terminal of a hook, which has no run of its own.
    with get_client(sync_client=True) as client:
        client.create_artifact(shown)


def _was_cancelled(run: UUID) -> bool:
    """Whether somebody cancelled a run, or asked to; False where Prefect cannot say."""
    try:
        with get_client(sync_client=True) as client:
            return any(state.is_cancelling() or state.is_cancelled() for state in client.read_flow_run_states(run))
    except (httpx.HTTPError, OSError):
        return False


@flow(name="alarm")
def alarm(run: str) -> bool:
    """Raise the alarm for a run that was killed with its worker, and so could run no hook of its own.

    An automation starts it for every run that is marked as crashed, see flows/automations.py.

    Args:
        run: the id of the run, or of its resource, ``prefect.flow-run.<id>``.

    Returns:
        False where the run's own hook was there first.
    """
    of_run = ArtifactFilterFlowRunId(any_=[UUID(run.removeprefix("prefect.flow-run."))])
    with get_client(sync_client=True) as client:
        if client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=of_run, key=ArtifactFilterKey(any_=[_KEY]))
        ):
            return False
        dead = client.read_flow_run(of_run.any_[0])  # type: ignore[index]
        raise_alarm(client.read_flow(dead.flow_id), dead, dead.state)
    return True


def describe(flow: str, run: Any, state: Any) -> dict[str, Any]:
    """What is told: flow, run, state, reason, and the last lines of every log of the run."""
    folder = scratch_folder(str(run.parameters.get("root", "./.vip"))) / "logs" / str(run.id)
    return {
        "flow": flow,
        "run": str(run.id),
        "name": run.name,
        "state": state.name,
        "reason": state.message or "",
        "logs": {path.name: last_lines(path, _LINES).replace(" | ", "\n") for path in sorted(folder.glob("*.log"))},
    }


def post(url: str, told: dict[str, Any]) -> bool:
    """Post as JSON; returns whether it was taken. The URL is named in no message."""
    try:
        httpx.post(url, json=told, timeout=_SECONDS).raise_for_status()
        return True
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.warning("the webhook in %s did not take the alarm: %s", WEBHOOK, type(error).__name__)
        return False
