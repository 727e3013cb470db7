"""Precompute: the pictures and texts of every shard through the frozen networks, once, as artifacts that runs find.

What comes out is what a run with ``cache_mb`` above 0 computes for itself, bit for bit on the same machine: each item
is encoded alone. So it enters no key of a checkpoint, and may be thrown away at any time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.bank import Bank
from schemas.manifest import ArtifactRef, Manifest, Recipe
from schemas.region import masks_of
from schemas.train_config import TrainConfig
from schemas.training import PrecomputeJob, PrecomputeProgress, ShardCaptions
from storage.models import model_artifact
from storage.store import ArtifactStore
from vip.diffusion.embeddings import embeddings_recipe, make_embeddings
from vip.diffusion.job import append_line, run_in_process
from vip.diffusion.latents import latents_recipe, make_latents

if TYPE_CHECKING:
    from vip.diffusion.encode import Encoder

_ROWS_A_LINE = 100

Shards = Sequence[tuple[ArtifactRef, ArtifactRef]]
"""(shard, its captions)."""


def recipes(
    store: ArtifactStore, base: str, folder: Path, shards: Shards, config: TrainConfig
) -> list[dict[str, Recipe]]:
    """What ``config.precompute`` asks for, of each shard: ``latents``, ``embeddings``, both or none.

    A shard that is captioned in another view has none: it is not trained on.

    Args:
        base: the base as the user calls it.
        folder: where it lies. Its parts are recorded as models of their own: bases that share a VAE share its latents.
    """
    part = {
        name: model_artifact(store, f"{name} of {base}", folder / name).ref
        for name in ("vae", "tokenizer", "text_encoder")
    }
    found = []
    for shard, captions in shards:
        bank = _bank(store.require(captions))
        wanted: dict[str, Callable[[], Recipe]] = {
            "latents": partial(latents_recipe, shard, part["vae"], bank, config),
            "embeddings": partial(embeddings_recipe, shard, captions, part["tokenizer"], part["text_encoder"], config),
        }
        asked = config.precompute if bank.view == config.view else ()
        found.append({str(what): wanted[what]() for what in asked})
    return found


def precompute(job: PrecomputeJob, on_progress: Callable[[PrecomputeProgress], None] | None = None) -> None:
    """Make what is missing. Each artifact is published as soon as it is whole, so a killed run goes on behind it.

    Raises:
        VipError: where the base, a shard or its captions cannot be read.
    """
    store = ArtifactStore(job.root, run_id=job.run_id)
    wanted = recipes(store, job.base, Path(job.base_dir), job.shards, job.config)
    missing = [
        (recipe, shard, captions)
        for (shard, captions), found in zip(job.shards, wanted, strict=True)
        for recipe in found.values()
        if store.find(recipe) is None
    ]
    if not missing:
        return
    encoder = _encoder(Path(job.base_dir))
    for done, (recipe, shard, captions) in enumerate(missing):

        def on_row(rows: int, done: int = done) -> None:
            if on_progress and rows % _ROWS_A_LINE == 0:
                on_progress(PrecomputeProgress(done=done, total=len(missing), rows=rows))

        data = place(store, shard, captions)
        if recipe.kind == "latents":
            bank = _bank(store.require(captions))
            make_latents(store, recipe, data, bank, job.config, encoder, on_row)
        else:
            make_embeddings(store, recipe, data, job.config, encoder, on_row)
    if on_progress:
        on_progress(PrecomputeProgress(done=len(missing), total=len(missing), rows=0))


def place(store: ArtifactStore, shard: ArtifactRef, captions: ArtifactRef) -> ShardCaptions:
    """Where a shard and its captions lie: local paths, or URLs that are read as streams."""
    held, rows = store.require(shard), store.require(captions)
    return ShardCaptions(
        tar=store.place(held, "samples.tar"),
        samples=store.place(held, "samples.parquet"),
        captions=store.place(rows, "captions.parquet"),
        masks=masks_of(_bank(rows).regions),
    )


def _bank(captions: Manifest) -> Bank:
    return Bank.model_validate(captions.stats.get("bank", captions.params["bank"]))


def _encoder(base: Path) -> "Encoder":
    import torch

    from vip.diffusion.encode import Encoder
    from vip.diffusion.load import load_frozen

    return Encoder(**load_frozen(base), device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def main(arguments: list[str] | None = None) -> None:
    """``python -m vip.diffusion.precompute --job job.json``; exits with 1 and one line on stderr where it fails."""
    run_in_process(PrecomputeJob, lambda job: precompute(job, partial(append_line, job.progress)), arguments)


if __name__ == "__main__":
    main()
