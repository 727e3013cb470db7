"""``vip evaluate``: a checkpoint in an exam."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.common import config_option, load_config, print_json, shared_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.evaluate_run import EvaluateRun
    from storage.store import ArtifactStore


@click.command()
@config_option
@shared_options
def command(config: Path, root: str, as_json: bool) -> None:
    """Measure a checkpoint on held-out images and pinned prompt sets.

    Where the config has `crossed`, every checkpoint is measured with every prompt set, and a table shows which of the
    two moved a number.
    """
    from flows.cli.result import read_metrics, show_crossing, show_metrics
    from schemas.evaluate_run import EvaluateRun

    wanted = load_config(config, EvaluateRun)
    from flows.console import console
    from flows.run import local_run
    from storage.store import ArtifactStore

    console.quiet = as_json
    with local_run(root):
        from flows.evaluate import evaluate_run

        ref = evaluate_run(root, wanted)
    store = ArtifactStore(root)
    rows = read_metrics(store, ref)
    crossed = _crossed(store, wanted, dict.fromkeys(row["metric"] for row in rows)) if len(wanted.cells) > 1 else {}
    if as_json:
        print_json({"evaluation": ref.model_dump(), "metrics": rows, **({"crossing": crossed} if crossed else {})})
        return
    show_metrics(rows)
    for metric, laid_out in crossed.items():
        click.echo(f"\n{metric}, ", nl=False)
        show_crossing(laid_out)


def _crossed(
    store: "ArtifactStore", wanted: "EvaluateRun", metrics: "Iterable[str]"
) -> dict[str, list[dict[str, Any]]]:
    from storage.refs import Refs
    from vip.evaluation.compare import crossing

    refs = Refs(store.backend)
    found = [refs.get(f"evaluation/{cell.name}") for cell in wanted.cells]
    evaluations = [store.require(one) for one in found if one is not None]
    laid_out = {metric: crossing(store, evaluations, metric) for metric in metrics}
    return {metric: rows for metric, rows in laid_out.items() if rows}
