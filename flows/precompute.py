"""Precompute: what a training asks for as artifacts, made where it is missing, in a process of its own."""

import tempfile
from pathlib import Path

from flows.child import run_child
from flows.progress import reporting
from flows.tasks import log_folder, open_store, task
from schemas.errors import VipError
from schemas.manifest import ArtifactRef
from schemas.train_config import TrainConfig
from schemas.training import PrecomputeJob, PrecomputeProgress
from storage.models import find_model
from vip.diffusion.precompute import recipes

Folders = dict[str, str]
"""``latents`` or ``embeddings`` -> local folder of the artifact."""


@task(task_run_name="precompute")
def precompute(root: str, shards: list[tuple[ArtifactRef, ArtifactRef]], config: TrainConfig) -> list[Folders]:
    """Encode the pictures and texts of each (shard, captions) once, or find them encoded."""
    store = open_store(root)
    base = find_model(config.base, "base", config.revision)
    wanted = recipes(store, config.base, base, shards, config)
    if any(store.find(recipe) is None for found in wanted for recipe in found.values()):
        with tempfile.TemporaryDirectory(prefix="vip-") as folder, reporting() as progress:
            job = PrecomputeJob(
                root=root,
                run_id=store.run_id,
                base=config.base,
                base_dir=str(base),
                config=config,
                shards=tuple(shards),
                progress=str(Path(folder) / "progress"),
            )

            def show(line: bytes) -> None:
                at = PrecomputeProgress.model_validate_json(line)
                progress("artifacts precomputed", at.done, at.total, f"{at.rows:,} rows of the next" if at.rows else "")

            run_child("vip.diffusion.precompute", job, Path(job.progress), log_folder(root) / "precompute.log", show)
    folders = []
    for found in wanted:
        made = {what: store.find(recipe) for what, recipe in found.items()}
        folders.append({what: str(store.local(one)) for what, one in made.items() if one is not None})
        if len(folders[-1]) < len(found):
            raise VipError("something precomputed was removed while it was being made", "run again")
    return folders
