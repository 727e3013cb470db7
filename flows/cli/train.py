"""``vip train``: captioned datasets become a checkpoint."""

from pathlib import Path

import click

from flows.cli.common import config_option, load_config, print_json, print_table, shared_options


@click.command()
@config_option
@click.option("--check", is_flag=True, help="Only check the config and print the plan; needs no weights.")
@shared_options
def command(config: Path, check: bool, root: str, as_json: bool) -> None:
    """Fine-tune an inpainting model with C-T-S control on captioned datasets."""
    from schemas.train_run import TrainRun

    wanted = load_config(config, TrainRun)
    if check:
        from vip.diffusion.plan import plan

        print_json(plan(wanted.train))
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
