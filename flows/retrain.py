"""Retrain: the whole run, from a pile of images to a report. Read this file first.

Each step hands on small references to artifacts. An artifact is named by what made it, so a step whose work is done
already finds it and costs a look-up; a killed run, started again, goes on where it was.
"""

from prefect import flow

from flows.accounting import Account
from flows.alarm import raise_alarm
from flows.caption import caption, gate
from flows.evaluate import evaluate, report
from flows.promote import promote
from flows.recaption import RETRAINED
from flows.shard import shard
from flows.tasks import open_store
from flows.train import Source, train
from schemas.retrain_config import RetrainConfig
from schemas.run_result import RunResult
from storage.refs import Refs


@flow(name="retrain", on_failure=[raise_alarm], on_crashed=[raise_alarm])
def retrain(root: str, config: RetrainConfig) -> RunResult:
    """Shard -> caption -> gate -> train -> evaluate -> promote -> report."""
    account = Account()

    # A sample is named by its bytes; a shard holds the samples whose names begin alike.
    with account.stage("shard"):
        dataset = shard(root, config.source, config.shard, config.runner)

    # A vision-language model describes the centre and the surrounding of each image. What it imagines from the centre
    # alone is all that a user has who wants to extend a picture, and is examined apart.
    with account.stage("caption"):
        captioned = caption(root, dataset, config.bank, config.caption, config.specs, runner=config.runner)
        captions, asked = captioned[0].caption_set, [one.asked for one in captioned]

    # Bad captions stop here, before they cost any training.
    with account.stage("gate"):
        checked = gate(root, captions, config.caption.gate)

    # The base learns to obey two texts in two regions.
    with account.stage("train"):
        checkpoint = train(root, [Source(config.shard.name, dataset, captions)], config.train)

    # The exam: held-out images, pinned prompts, each setting apart.
    with account.stage("evaluate"):
        prompts = dict(zip(("oracle", "centre_only"), (one.caption_set for one in captioned), strict=False))
        evaluation = evaluate(root, checkpoint, dataset, prompts, config.evaluate, config.runner)

    # It takes the place of the promoted one only where the same exam shows it not worse, and a person
    # agrees where the config asks for one.
    with account.stage("promote"):
        promotion = promote(
            root,
            config.shard.name,
            evaluation,
            dataset,
            prompts,
            config.evaluate,
            config.promote,
            config.approval,
            config.runner,
        )

    store = open_store(root)
    summary = account.close(store, [checked, evaluation], promotion, asked, config.caption.price)
    page = report(root, evaluation, summary)

    refs = Refs(store.backend)
    made = {
        "captions": captions,
        RETRAINED: captions,
        "checkpoint": checkpoint,
        "evaluation": evaluation,
        "report": page,
    }
    for what, ref in made.items():
        refs.set(f"{what}/{config.shard.name}", ref)
    trained = store.require(checkpoint)
    return RunResult(
        dataset=dataset,
        captions=captions,
        gate=checked,
        checkpoint=checkpoint,
        evaluation=evaluation,
        promotion=promotion,
        report=page,
        requests=sum(one.requests for one in asked),
        steps=trained.stats["steps"] - trained.stats["resumed_from"] if trained.run.id == store.run_id else 0,
        summary=summary,
    )
