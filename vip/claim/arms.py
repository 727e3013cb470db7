"""Arms: how each way of control comes to its checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.claim_config import ABLATIONS, CHANGES, TIMES, TRAINED, ClaimConfig
from schemas.manifest import Manifest, Recipe
from schemas.train_config import TrainConfig
from storage.store import ArtifactStore

Train = Callable[[TrainConfig, str], Manifest]
"""Trains a config on the captions of a spec, or finds its checkpoint."""

SPLIT = "nano-split"
"""Spec of the arm of that name."""

NEVER = 1e-30
"""A learning rate that leaves ``a`` at 0 in every precision there is, so that a plain model stays plain."""


def checkpoint_of(
    store: ArtifactStore, config: ClaimConfig, arm: str, seed: int, base: Manifest, base_folder: Path, train: Train
) -> Manifest:
    """The checkpoint of one arm and seed; the seed means nothing to arms that are not trained."""
    if arm in TRAINED:
        return train(train_config(config, arm, seed), SPLIT if arm == "split" else config.spec)
    # With a = 1 only the regional texts are attended to, through copies of the base's own keys and values.
    return fresh_checkpoint(store, base, base_folder, a=1.0 if arm == "masked" else 0.0)


def train_config(config: ClaimConfig, arm: str, seed: int) -> TrainConfig:
    """What a trained arm is trained with."""
    branches = {"plain": "key_value", **dict.fromkeys(ABLATIONS, "cross_attention")}.get(arm, arm)
    steps = config.train.steps * TIMES.get(arm, 1)
    changes: dict[str, Any] = {"seed": seed, "branches": branches, "steps": steps, **CHANGES.get(arm, {})}
    if arm == "plain":
        changes["fusion_lr"] = NEVER
    return config.train.model_copy(update=changes)


def fresh_checkpoint(store: ArtifactStore, base: Manifest, base_folder: Path, a: float) -> Manifest:
    """A base with key-value branches copied from its own, every fusion weight at ``a``, and not a step of training."""
    recipe = Recipe(kind="checkpoint", stage="fresh_checkpoint", inputs={"base": base.ref}, params={"fresh_a": a})

    def build(folder: Path) -> dict[str, Any]:
        import torch

        from vip.diffusion.load import quiet
        from vip.diffusion.pipeline import VIPOutpaintPipeline

        with quiet():
            pipeline = VIPOutpaintPipeline.from_base(str(base_folder), branches="key_value", dtype=torch.float32)
        with torch.no_grad():
            for _, weight in pipeline.control.fusion():
                weight.fill_(a)
        with quiet():
            pipeline.save_pretrained(str(folder), safe_serialization=True)
        return {"steps": 0}

    return store.build(recipe, build)[0]
