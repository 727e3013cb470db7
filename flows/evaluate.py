"""Evaluate: one checkpoint in one exam, and the page that reports it."""

import base64
import io
import tarfile

from prefect import flow
from prefect.artifacts import create_image_artifact, create_table_artifact

from flows.alarm import raise_alarm
from flows.artifacts import find_artifact
from flows.progress import reporting
from flows.runners import working
from flows.tasks import open_store, task
from schemas.errors import VipError
from schemas.evaluate_config import EvaluateConfig
from schemas.evaluate_run import EvaluateRun
from schemas.manifest import ArtifactRef, Manifest
from schemas.run_summary import RunSummary
from schemas.runner import THREADS, Runner
from schemas.tables import GENERATED, METRICS
from storage.refs import Refs
from storage.store import ArtifactStore
from storage.tables import read_table
from vip.evaluation.evaluate import METRICS_TABLE, Part, exam_parts, make_parts
from vip.evaluation.evaluate import evaluate as examine
from vip.evaluation.exam import ALONGSIDE
from vip.evaluation.sample import TABLE, TAR
from vip.report.make import make_report


@task(task_run_name="exam-{parts[0][0]}-{parts[0][1]}")
def make(
    parts: tuple[Part, ...],
    root: str,
    checkpoint: ArtifactRef,
    dataset: ArtifactRef,
    prompt_sets: dict[str, ArtifactRef],
    config: EvaluateConfig,
) -> None:
    """Sample and take features of some chunks of the exam, in a worker."""
    store = open_store(root)
    prompts = {name: store.require(ref) for name, ref in prompt_sets.items()}
    with reporting(console_too=False) as progress:
        make_parts(store, config, store.require(checkpoint), store.require(dataset), prompts, parts, progress)


@task(task_run_name="exam")
def exam(
    root: str,
    checkpoint: ArtifactRef,
    dataset: ArtifactRef,
    prompt_sets: dict[str, ArtifactRef],
    config: EvaluateConfig,
) -> ArtifactRef:
    """Sample, take features and measure; what exists is found by its key."""
    store = open_store(root)
    prompts = {name: store.require(ref) for name, ref in prompt_sets.items()}
    with reporting() as progress:
        made = examine(store, config, store.require(checkpoint), store.require(dataset), prompts, progress)
    rows = read_table(store.read(made, METRICS_TABLE), METRICS).to_pylist()
    shown = [{name: row[name] for name in ("metric", "setting", "value", "low", "high", "n")} for row in rows]
    create_table_artifact(key="metrics", table=shown, description="Metrics")
    _show_samples(store, made)
    return made.ref


def _show_samples(store: ArtifactStore, made: Manifest) -> None:
    """A strip of outpainted images on Prefect's page."""
    from PIL import Image

    role = next(role for role in made.inputs if role.startswith("samples/"))
    samples = store.require(made.inputs[role])
    names = read_table(store.read(samples, TABLE), GENERATED).column("pasted").to_pylist()[:8]
    with tarfile.open(fileobj=io.BytesIO(store.read(samples, TAR))) as tar:
        pictures = [Image.open(io.BytesIO(tar.extractfile(name).read())).convert("RGB") for name in names]  # type: ignore[union-attr]
    width, height = pictures[0].size
    strip = Image.new("RGB", (width * len(pictures), height))
    for number, picture in enumerate(pictures):
        strip.paste(picture, (number * width, 0))
    out = io.BytesIO()
    strip.save(out, "JPEG", quality=85)
    url = "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    create_image_artifact(key="samples", image_url=url, description="Outpainted")


@task(task_run_name="report")
def report(root: str, evaluation: ArtifactRef, summary: RunSummary) -> ArtifactRef:
    """Write the report page."""
    store = open_store(root)
    return make_report(store, store.require(evaluation), summary).ref


@flow(name="evaluate")
def evaluate(
    root: str,
    checkpoint: ArtifactRef,
    dataset: ArtifactRef,
    prompt_sets: dict[str, ArtifactRef],
    config: EvaluateConfig,
    runner: Runner = THREADS,
) -> ArtifactRef:
    """Measure ``checkpoint`` on the held-out images of ``dataset`` with pinned prompt sets."""
    if runner.spread:
        # The workers make what the exam then finds; a model is loaded once a task, so there are few and large ones.
        store = open_store(root)
        prompts = {name: store.require(ref) for name, ref in prompt_sets.items()}
        parts = exam_parts(store, config, store.require(dataset), prompts)
        few = runner.model_copy(update={"tasks": min(runner.tasks, 4 * runner.workers)})
        with working(few) as pool:
            list(pool.each(make, few.slices(parts), root, checkpoint, dataset, prompt_sets, config))
    return exam(root, checkpoint, dataset, prompt_sets, config)


@flow(name="evaluate-run", on_failure=[raise_alarm], on_crashed=[raise_alarm])
def evaluate_run(root: str, run: EvaluateRun) -> ArtifactRef:
    """``evaluate`` with everything given by name, as in a config file; sets the ref ``evaluation/<name>``.

    Returns:
        The evaluation; where checkpoints and prompt sets are crossed, the first.

    Raises:
        VipError: where a name means nothing, or a prompt set that the exam needs is not named.
    """
    store = open_store(root)
    missing = [name for name in run.evaluate.needs if name not in run.prompts]
    if missing:
        raise VipError(f"prompts.{missing[0]} is missing", "name the caption set that is pinned for it")
    # Every name is looked up before the first exam begins.
    cells = [(cell.name, *_found(store, cell)) for cell in run.cells]
    made = []
    for name, checkpoint, dataset, prompts in cells:
        made.append(evaluate(root, checkpoint, dataset, prompts, run.evaluate, run.runner))
        Refs(store.backend).set(f"evaluation/{name}", made[-1])
    return made[0]


def _found(store: ArtifactStore, run: EvaluateRun) -> tuple[ArtifactRef, ArtifactRef, dict[str, ArtifactRef]]:
    named = {**run.prompts, **{f"{ALONGSIDE}{number}": name for number, name in enumerate(run.alongside)}}
    return (
        find_artifact(store, "checkpoint", run.checkpoint).ref,
        find_artifact(store, "dataset", run.dataset).ref,
        {what: find_artifact(store, "caption_set", name).ref for what, name in named.items()},
    )
