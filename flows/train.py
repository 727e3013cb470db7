"""Train: datasets and their captions become a checkpoint, in a process of its own."""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow

from flows.artifacts import find_artifact
from flows.progress import Progress, reporting
from flows.run import scratch_folder
from flows.tasks import log_folder, open_store, task
from schemas.canonical import fingerprint
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Manifest, Recipe
from schemas.train_config import TrainConfig
from schemas.train_run import TrainRun
from schemas.training import ShardCaptions, TrainJob, TrainProgress, TrainResult
from storage.models import find_model, model_artifact
from storage.refs import Refs
from storage.store import ArtifactStore
from vip.captioning.plan import dataset_shards
from vip.processes import OwnedProcess

LOSSES_TABLE = "losses.parquet"


@dataclass(frozen=True)
class Source:
    """One dataset to train on, with its captions; ``name`` is what a mixture weighs it by."""

    name: str
    dataset: ArtifactRef
    captions: ArtifactRef


@task(task_run_name="train")
def fit(root: str, sources: list[Source], config: TrainConfig) -> ArtifactRef:
    """Fine-tune the base on the training split, or find the checkpoint by its key."""
    store = open_store(root)
    base_folder = find_model(config.base, "base")
    recipe = checkpoint_recipe(store, model_artifact(store, config.base, base_folder), sources, config)
    states = scratch_folder(root) / "training" / states_name(recipe, config)

    def build(folder: Path) -> dict[str, Any]:
        job = TrainJob(
            config=config,
            base_dir=str(base_folder),
            shards=tuple(data for source in sources for data in training_data(store, source)),
            scratch=str(states),
            out_dir=str(folder),
            progress=str(folder.parent / f"{folder.name}.progress"),
        )
        with reporting() as progress:
            result = _run(job, log_folder(root) / "train.log", progress)
        return {"rows": {LOSSES_TABLE: result.steps}, **result.model_dump(mode="json")}

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


def checkpoint_recipe(store: ArtifactStore, base: Manifest, sources: list[Source], config: TrainConfig) -> Recipe:
    """What names a checkpoint: base, shards, captions and config. File names of images are in none of them."""
    inputs = {"base": base.ref}
    for source in sources:
        shards = dataset_shards(store.require(source.dataset))
        captions = store.require(source.captions).inputs
        inputs[f"caption_set/{source.name}"] = source.captions
        inputs |= {f"shard/{source.name}/{prefix}": ref for prefix, ref in shards.items()}
        inputs |= {f"captions/{source.name}/{prefix}": captions[f"captions/{prefix}"] for prefix in shards}
    return Recipe(kind="checkpoint", stage="train", inputs=inputs, params=config.params())


def training_data(store: ArtifactStore, source: Source) -> list[ShardCaptions]:
    """Where the trainer finds each shard and its captions: local paths, or URLs that it reads as streams."""
    captions = store.require(source.captions).inputs
    data = []
    for prefix, ref in dataset_shards(store.require(source.dataset)).items():
        shard, rows = store.require(ref), store.require(captions[f"captions/{prefix}"])
        data.append(
            ShardCaptions(
                tar=store.place(shard, "samples.tar"),
                samples=store.place(shard, "samples.parquet"),
                captions=store.place(rows, "captions.parquet"),
                dataset=source.name,
            )
        )
    return data


def _run(job: TrainJob, log: Path, progress: Progress) -> TrainResult:
    """Run the trainer in its own process group and pass its progress on.

    Raises:
        VipError: with the last lines of its log, where it fails.
    """
    lines = Path(str(job.progress))
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=lines.parent) as file:
        file.write(job.model_dump_json())
        file.flush()
        command = [sys.executable, "-m", "vip.diffusion.train", "--job", file.name]
        with OwnedProcess(command, log) as trainer:
            follow = _Follow(lines, lambda at: progress("training steps", at.step, at.steps, f"loss {at.loss:.4f}"))
            while trainer.poll() is None:
                time.sleep(0.3)
                follow.read()
            result = follow.read()
    lines.unlink(missing_ok=True)
    if result is None:
        raise VipError(f"training ended with exit code {trainer.poll()}: {trainer.last_lines(3)}", f"see {log}")
    return result


class _Follow:
    """Reads the trainer's progress lines as they appear."""

    def __init__(self, path: Path, on_step: Callable[[TrainProgress], None]) -> None:
        self._path, self._on_step, self._at = path, on_step, 0
        self._result: TrainResult | None = None

    def read(self) -> TrainResult | None:
        """Pass on what is new; the result once it is there."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._at += len(line)
                    record = json.loads(line)
                    if "final_loss" in record:
                        self._result = TrainResult.model_validate(record)
                    else:
                        self._on_step(TrainProgress.model_validate(record))
        return self._result


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
    sources = [
        Source(
            data.name,
            find_artifact(store, "dataset", data.dataset).ref,
            find_artifact(store, "caption_set", data.captions or data.name, "captions").ref,
        )
        for data in run.data
    ]
    checkpoint = train(root, sources, run.train)
    Refs(store.backend).set(f"checkpoint/{run.name}", checkpoint)
    return checkpoint
