"""Recaption: keep the captions of a source fresh; what is missing or stale is asked, the rest is found."""

from prefect import flow
from prefect.events import emit_event

from flows.alarm import raise_alarm
from flows.caption import caption, gate
from flows.shard import shard
from flows.tasks import open_store
from schemas.manifest import ArtifactRef
from schemas.retrain_config import RetrainConfig
from storage.refs import Refs

CAPTIONS_PASSED = "vip.captions.passed"
"""The event that says that a new caption set has passed its gate; it starts ``retrain``, see flows/automations.py."""

RETRAINED = "retrained"
"""``retrained/<name>`` points at the caption set that was last announced, or retrained on without that.

``captions/<name>`` does not tell: ``vip caption`` sets it too, as for rows that are retried after a gate that failed.
"""


@flow(name="recaption", on_failure=[raise_alarm], on_crashed=[raise_alarm])
def recaption(root: str, config: RetrainConfig) -> ArtifactRef:
    """Shard and caption the source of ``config``; a caption set that is new and passes its gate is announced."""
    name = config.shard.name
    dataset = shard(root, config.source, config.shard, config.runner)
    specs = (config.caption.spec,)
    (captioned,) = caption(root, dataset, config.bank, config.caption, specs, runner=config.runner)
    gate(root, captioned.caption_set, config.caption.gate)
    refs = Refs(open_store(root).backend)
    refs.set(f"captions/{name}", captioned.caption_set, note="recaption")
    if refs.get(f"{RETRAINED}/{name}") != captioned.caption_set:
        # Announced first: a run that dies between the two announces it again, and what is made already costs nothing.
        emit_event(
            CAPTIONS_PASSED,
            resource={"prefect.resource.id": f"vip.captions.{name}", "vip.digest": captioned.caption_set.digest},
            payload={"asked": captioned.asked.requests, "captions": captioned.captions, "rejected": captioned.rejected},
        )
        refs.set(f"{RETRAINED}/{name}", captioned.caption_set, note="recaption")
    return captioned.caption_set
