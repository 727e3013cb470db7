"""Run: every arm and seed through the same exam. Killed and started again, it goes on where it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from schemas.claim_config import TRAINED, ClaimConfig
from schemas.manifest import Manifest
from storage.store import ArtifactStore
from vip.claim.arms import Train, checkpoint_of
from vip.evaluation.evaluate import evaluate
from vip.evaluation.sample import Progress


class Outcome(NamedTuple):
    """One arm under one seed."""

    arm: str
    seed: int
    checkpoint: Manifest
    evaluation: Manifest


def run_claim(
    store: ArtifactStore,
    config: ClaimConfig,
    base: Manifest,
    base_folder: Path,
    dataset: Manifest,
    prompt_sets: Mapping[str, Manifest],
    train: Train,
    progress: Progress,
) -> list[Outcome]:
    """Train and examine every arm, seed by seed, so that a run that is cut short has whole seeds to compare.

    Args:
        store: where everything lies; what is there is not done again.
        config: the comparison.
        base, base_folder: what every arm starts from.
        dataset, prompt_sets: of the exam.
        train: trains on the data that all arms share.
        progress: called with (what, done, total).

    Returns:
        One outcome for each trained arm and seed, and one for each arm that is not trained.
    """
    work = [(arm, seed) for seed in range(config.seeds) for arm in config.arms if arm in TRAINED or seed == 0]
    outcomes = []
    for number, (arm, seed) in enumerate(work):
        progress(f"claim: {arm}, seed {seed}", number, len(work))
        checkpoint = checkpoint_of(store, config, arm, seed, base, base_folder, train)
        examined = evaluate(store, config.evaluate, checkpoint, dataset, prompt_sets, progress)
        outcomes.append(Outcome(arm, seed, checkpoint, examined))
    progress("claim", len(work), len(work))
    return outcomes
