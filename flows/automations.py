"""Automations: what starts by itself on a Prefect server, beside the schedules of prefect.yaml."""

from datetime import timedelta
from typing import Any, cast

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.recaption import CAPTIONS_PASSED

HEARTBEAT_VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
HEARTBEAT_SECONDS = 180
"""How often a running flow says that it is alive where the variable is not set."""
HEARTBEAT_LEAST = 30
"""Prefect allows no less: a process that is given less ends as it imports Prefect."""


WATCHED = ("recaption", "retrain", "evaluate-run", "verify")
"""Flows whose end by force is told; what they call as subflows ends with them."""


def automations(retrain_id: Any, alarm_id: Any, silence: float) -> list[Automation]:
    """The automations of the project.

    Args:
        retrain_id: id of the deployment ``retrain``.
        alarm_id: id of the deployment ``alarm``.
        silence: seconds without a heartbeat after which a run counts as dead.
    """
    # A suspended run has no process, and is not dead.
    over = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Suspended")}
    return [
        Automation(
            name="vip: mark dead runs as crashed",
            description="A run whose process was killed stays Running otherwise.",
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.heartbeat", *over},
                match={"prefect.resource.id": "prefect.flow-run.*"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=silence),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED, name=None, message=f"no heartbeat for {silence:.0f} s", force=False
                )
            ],
        ),
        Automation(
            name="vip: retrain on new captions",
            description="A new caption set that passed its gate starts the deployment retrain.",
            trigger=EventTrigger(
                expect={CAPTIONS_PASSED},
                match={"prefect.resource.id": "vip.captions.*"},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[RunDeployment(source="selected", deployment_id=retrain_id, parameters=None, job_variables=None)],
        ),
        Automation(
            name="vip: tell of crashed runs",
            description="A run that was killed with its worker can tell nobody itself.",
            trigger=EventTrigger(
                expect={"prefect.flow-run.Crashed"},
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(WATCHED)},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=alarm_id,
                    parameters={"run": {"__prefect_kind": "jinja", "template": "{{ event.resource.id }}"}},
                    job_variables=None,
                )
            ],
        ),
    ]


def put_automation(wanted: Automation) -> str:
    """Create an automation, or bring the one of that name to what is wanted; returns ``created`` or ``updated``."""
    try:
        standing = cast(Automation, Automation.read(name=wanted.name))
    except (ValueError, ObjectNotFound):
        wanted.create()
        return "created"
    wanted.id = standing.id
    wanted.update()
    return "updated"
