"""Approval: a run waits until a person says on Prefect's page, or through its API, whether to promote."""

import asyncio

from prefect import flow
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput

from flows.console import console
from schemas.approval import Approval, ApprovalRules
from schemas.errors import VipError

_LOOK_SECONDS = 5
_LATER = 600
"""Seconds after us at which the server would end the run by itself, without saying for what nobody came."""


@flow(name="approval", flow_run_name="promote {name}")
def ask_person(name: str, reasons: list[str], rules: ApprovalRules) -> Approval:
    """A flow run of its own that pauses until somebody resumes it with an ``Approval``.

    Its own, because Prefect takes the place that a deployment's concurrency limit gives from a run that pauses, and
    then ends it at the next renewal, within four minutes. Whoever called it stays Running, and keeps the place.

    Args:
        name: of the dataset whose checkpoint is to be promoted.
        reasons: why it may be; they are shown beside the form.
        rules: how long to wait.

    Raises:
        VipError: where nobody answers in time.
    """
    shown = "\n".join(f"* {reason}" for reason in reasons)
    form = RunInput.subclass_from_base_model_type(Approval).with_initial_data(
        description=f"Promote the new checkpoint of **{name}**?\n\n{shown}"
    )
    console.say(f"  waiting {rules.hours:g} h at most for a person to resume `promote {name}` on Prefect's page")
    seconds = rules.hours * 3600

    async def wait() -> Approval:
        async with asyncio.timeout(seconds):
            said = await apause_flow_run(
                wait_for_input=form, timeout=int(seconds) + _LATER, poll_interval=_LOOK_SECONDS, key="promotion"
            )
        return Approval.model_validate(said.model_dump(include=set(Approval.model_fields)))

    try:
        return asyncio.run(wait())
    except (TimeoutError, FlowPauseTimeout):
        raise VipError(
            f"nobody said within {rules.hours:g} h whether to promote the checkpoint",
            "run again to be asked again; what was made is kept",
        ) from None
