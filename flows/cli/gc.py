"""``vip gc``: remove what no name reaches."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from flows.cli.common import print_json, print_table, shared_options

if TYPE_CHECKING:
    from schemas.manifest import Output


@click.command()
@click.option("--delete", is_flag=True, help="Really remove; without it, only say what would go.")
@click.option(
    "--history",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Newest entries of each ref that keep.",
)
@click.option(
    "--grace-hours",
    type=click.FloatRange(0, 1e6),
    default=24.0,
    show_default=True,
    help="Spare what is younger than this.",
)
@click.option("--precomputed", is_flag=True, help="Take latents and embeddings too; training makes them again.")
@shared_options
def command(delete: bool, history: int, grace_hours: float, precomputed: bool, root: str, as_json: bool) -> None:
    """Remove what no ref reaches (`vip ref list`) and what interrupted writes left; a dry run unless --delete is given.

    Gates, evaluations and reports stay with the checkpoint or captions they speak of, latents and embeddings with the
    shard or captions they were made from. Answers, the suppression list and
    the records of takedowns always stay. What goes leaves a record, and can be built again.
    """
    from datetime import timedelta

    from flows.console import console
    from storage.store import ArtifactStore
    from vip.lineage.gc import plan_gc, run_gc

    store = ArtifactStore(root)
    plan = plan_gc(store, history, timedelta(hours=grace_hours), precomputed)
    if delete:
        run_gc(store, plan, None if as_json else console.progress)
    found = {
        "deleted": delete,
        "artifacts": len(plan.artifacts),
        "leftover_files": len(plan.leftovers),
        "bytes": plan.bytes,
        "kept": plan.kept,
        "young": plan.young,
    }
    if as_json:
        gone = [{"kind": made.kind, "key": made.key, "finished": made.run.finished} for made in plan.artifacts]
        print_json(found | {"gone": gone, "leftovers": [path for path, _ in plan.leftovers]})
        return
    if plan.artifacts:
        print_table(
            [
                (made.kind, made.key[:16], f"{made.run.finished:%Y-%m-%d %H:%M}", _size(made.outputs.values()))
                for made in plan.artifacts
            ],
            ("kind", "key", "made", "size"),
        )
    what = "removed" if delete else "would go"
    click.echo(
        f"{what}: {len(plan.artifacts):,} artifacts and {len(plan.leftovers):,} left-over files, "
        f"{plan.bytes / 1e6:,.1f} MB; kept: {plan.kept:,}; too young: {plan.young:,}"
    )
    if not delete and (plan.artifacts or plan.leftovers):
        click.echo("nothing was touched; add --delete to remove them")


def _size(outputs: Iterable["Output"]) -> str:
    return f"{sum(output.bytes for output in outputs) / 1e6:,.2f} MB"
