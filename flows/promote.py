"""Promote: a checkpoint takes the place of the promoted one where the same exam shows it not worse."""

from prefect.artifacts import create_markdown_artifact

from flows.approval import ask_person
from flows.evaluate import evaluate
from flows.tasks import open_store, task
from schemas.approval import ApprovalRules
from schemas.evaluate_config import EvaluateConfig
from schemas.manifest import ArtifactRef, Manifest
from schemas.promotion import PromotionRules
from schemas.runner import THREADS, Runner
from storage.refs import Refs
from storage.store import ArtifactStore
from vip.evaluation.promote import judge_promotion


def rival(store: ArtifactStore, name: str, checkpoint: ArtifactRef) -> tuple[Manifest | None, bool]:
    """What ``checkpoint`` is to be compared with, from the log of ``promoted/<name>``.

    Returns:
        The checkpoint that is promoted, or that was before this one (None where there is none that still stands), and
        whether this one was promoted once and rolled back: what followed it had stood before it. A newer one that
        followed it was merely better.
    """
    log = Refs(store.backend).log(f"promoted/{name}")
    others = [entry.target for entry in log if entry.target.digest != checkpoint.digest]
    digests = [entry.target.digest for entry in log]
    rolled_back = False
    if checkpoint.digest in digests:
        first, last = digests.index(checkpoint.digest), len(digests) - 1 - digests[::-1].index(checkpoint.digest)
        rolled_back = not set(digests[:first]).isdisjoint(digests[last + 1 :])
    return (store.get(others[-1].kind, others[-1].key) if others else None), rolled_back


def promote(
    root: str,
    name: str,
    evaluation: ArtifactRef,
    dataset: ArtifactRef,
    prompts: dict[str, ArtifactRef],
    exam: EvaluateConfig,
    rules: PromotionRules,
    approval: ApprovalRules | None = None,
    runner: Runner = THREADS,
) -> ArtifactRef:
    """Examine the promoted checkpoint in the very exam of the new one, compare them, and move ``promoted/<name>``.

    The exam of the promoted one is found by its key where images and captions have not changed since. With ``approval``
    the run waits before the move until a person has agreed.

    Returns:
        The ``promotion`` artifact.
    """
    store = open_store(root)
    other, rolled_back = rival(store, name, store.require(evaluation).inputs["checkpoint"])
    incumbent = None if other is None else evaluate(root, other.ref, dataset, prompts, exam, runner)
    return decision(root, name, evaluation, incumbent, rules, rolled_back, approval)


@task(task_run_name="promote")
def decision(
    root: str,
    name: str,
    evaluation: ArtifactRef,
    incumbent: ArtifactRef | None,
    rules: PromotionRules,
    rolled_back: bool,
    approval: ApprovalRules | None,
) -> ArtifactRef:
    """Judge, say so on Prefect's page, and move the ref where the checkpoint is promoted."""
    store = open_store(root)
    against = None if incumbent is None else store.require(incumbent)
    agree = None if approval is None else lambda reasons: ask_person(name, reasons, approval)
    made = judge_promotion(store, store.require(evaluation), against, rules, rolled_back, agree)
    told = "; ".join(made.stats["reasons"])
    if made.stats["promoted"]:
        Refs(store.backend).set(f"promoted/{name}", store.require(evaluation).inputs["checkpoint"], note=told[:300])
    verdict = "promoted" if made.stats["promoted"] else "refused"
    create_markdown_artifact(key="promotion", markdown=f"**{verdict}**: {told}", description="Promotion")
    return made.ref
