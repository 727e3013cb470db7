"""Train: datasets and their captions become a checkpoint, in a process of its own."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from prefect import flow

from flows.child import Launch, run_child
from flows.console import console
from flows.precompute import precompute
from flows.progress import Progress, reporting
from flows.run import scratch_folder
from flows.sources import Source, checkpoint_recipe, find_sources, parts_of
from flows.tasks import log_folder, open_store, task
from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Recipe
from schemas.train_config import TrainConfig
from schemas.train_run import TrainRun
from schemas.training import ShardCaptions, TrainFailure, TrainJob, TrainProgress, TrainResult
from storage.models import find_model, model_artifact
from storage.refs import Refs
from vip.diffusion import launch

LOSSES_TABLE = "losses.parquet"


@task(task_run_name="train")
def fit(root: str, sources: list[Source], config: TrainConfig) -> ArtifactRef:
    """Fine-tune the base on the training split, or find the checkpoint by its key."""
    store = open_store(root)
    base_folder = find_model(config.base, "base", config.revision)
    recipe = checkpoint_recipe(store, model_artifact(store, config.base, base_folder), sources, config)
    states = scratch_folder(root) / "training" / states_name(recipe, config)

    def build(folder: Path) -> dict[str, Any]:
        job = TrainJob(
            config=config,
            base_dir=str(base_folder),
            shards=tuple(training_data(root, sources, config)),
            scratch=str(states),
            out_dir=str(folder),
            progress=str(folder.parent / f"{folder.name}.progress"),
        )
        with reporting() as progress:
            result = _run(job, log_folder(root) / "train.log", progress)
        rows = {LOSSES_TABLE: result.steps}
        told = {"base": config.base, "revision": config.revision, "precomputed": list(config.precompute)}
        return {"rows": rows, **told, **result.model_dump(mode="json")}

    made, fresh = store.build(recipe, build)
    if fresh:
        # The states stay, so that the run can be prolonged; pictures go, so that `vip forget` need not look for them.
        shutil.rmtree(states / "validation", ignore_errors=True)
    return made.ref


def states_name(recipe: Recipe, config: TrainConfig) -> str:
    """Folder of the training states that a run may go on from.

    It is named by all that a step depends on, but not by the number of steps: the same run with more of them goes on
    where the shorter one ended.
    """
    inputs = {role: ref.model_dump(mode="json") for role, ref in recipe.inputs.items()}
    return fingerprint({"inputs": inputs, "state": config.state_key()})[:16]


def training_data(root: str, sources: list[Source], config: TrainConfig) -> list[ShardCaptions]:
    """Where the trainer finds each shard, its captions and what is precomputed of them."""
    store = open_store(root)
    parts = parts_of(store, sources)
    pairs = [(part.shard, part.captions) for part in parts]
    encoded = precompute(root, pairs, config) if config.precompute else [{} for _ in parts]
    return [part.place(store).model_copy(update=folders) for part, folders in zip(parts, encoded, strict=True)]


def _run(job: TrainJob, log: Path, progress: Progress) -> TrainResult:
    """Run the trainer, or several that torchrun keeps together, and pass their progress on.

    Raises:
        VipError: with exit code and reason, where one fails.
    """
    config = job.config
    results: list[TrainResult] = []
    failures: list[str] = []

    def show(line: bytes) -> None:
        record = json.loads(line)
        if "final_loss" in record:
            results.append(TrainResult.model_validate(record))
            return
        if "failure" in record:
            failures.append(TrainFailure.model_validate(record).failure)
            return
        at = TrainProgress.model_validate(record)
        progress("training steps", at.step, at.steps, f"loss {at.loss:.4f}")

    def command(file: Path) -> list[str]:
        started = launch.command(config, file, Path(job.scratch).name)
        if config.hosts > 1:
            console.say(f"  start this on the other {config.hosts - 1} hosts: {shlex.join(started)}")
        return started

    how = Launch(
        command,
        launch.environment(config),
        # Other hosts read the job where they read the training states.
        Path(job.scratch) if config.hosts > 1 else None,
        lambda log, code: launch.why_it_ended(log, code, failures[0] if failures else None),
    )
    run_child("vip.diffusion.train", job, Path(str(job.progress)), log, show, how)
    if not results:
        raise VipError("the trainer ended without a result", f"see {log}")
    return results[-1]


@flow(name="train")
def train(root: str, sources: list[Source], config: TrainConfig) -> ArtifactRef:
    """Train ``config`` on the captioned images of ``sources``."""
    return fit(root, sources, config)


@flow(name="train-run")
def train_run(root: str, run: TrainRun) -> ArtifactRef:
    """``train`` with everything given by name, as in a config file; sets the ref ``checkpoint/<name>``.

    Raises:
        VipError: where a name means nothing.
    """
    store = open_store(root)
    checkpoint = train(root, find_sources(store, run), run.train)
    Refs(store.backend).set(f"checkpoint/{run.name}", checkpoint)
    return checkpoint
