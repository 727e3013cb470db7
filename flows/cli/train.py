"""``vip train``: captioned datasets become a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.common import config_option, load_config, print_json, print_table, shared_options

if TYPE_CHECKING:
    from schemas.train_run import TrainRun
    from schemas.training import TrainPlan


@click.command()
@config_option
@click.option("--check", is_flag=True, help="Only check config and data and print the plan; needs no weights.")
@shared_options
def command(config: Path, check: bool, root: str, as_json: bool) -> None:
    """Fine-tune an inpainting model with C-T-S control on captioned datasets."""
    from schemas.train_run import TrainRun

    wanted = load_config(config, TrainRun)
    if check:
        print_json(_plan(root, wanted))
        return
    from flows.console import console
    from flows.run import local_run
    from storage.store import ArtifactStore

    console.quiet = as_json
    with local_run(root):
        from flows.train import train_run

        ref = train_run(root, wanted)
    store = ArtifactStore(root)
    made = store.require(ref)
    if as_json:
        print_json({"checkpoint": ref.model_dump(), "stats": made.stats})
        return
    print_table(
        [
            ("checkpoint", f"checkpoint/{wanted.name} ({ref.digest[:12]})"),
            ("folder", store.local(made) / "pipeline"),
            ("steps", f"{made.stats['steps']:,}"),
            ("loss", f"{made.stats['final_loss']:.4f}"),
        ]
    )


def _plan(root: str, run: "TrainRun") -> "TrainPlan":
    """What the run will take; its data are counted where the root knows any of its datasets."""
    from flows.sources import any_dataset, find_sources, parts_of
    from storage.store import ArtifactStore
    from vip.diffusion.plan import plan

    store = ArtifactStore(root)
    if not any_dataset(store, run):
        return plan(run.train)
    shards = [part.place(store) for part in parts_of(store, find_sources(store, run))]
    return plan(run.train, shards=shards)
