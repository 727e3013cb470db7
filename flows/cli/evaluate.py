"""``vip evaluate``: a checkpoint in an exam."""

from pathlib import Path

import click

from flows.cli.common import config_option, load_config, print_json, shared_options


@click.command()
@config_option
@shared_options
def command(config: Path, root: str, as_json: bool) -> None:
    """Measure a checkpoint on held-out images and pinned prompt sets."""
    from flows.cli.result import read_metrics, show_metrics
    from schemas.evaluate_run import EvaluateRun

    wanted = load_config(config, EvaluateRun)
    from flows.console import console
    from flows.run import local_run
    from storage.store import ArtifactStore

    console.quiet = as_json
    with local_run(root):
        from flows.evaluate import evaluate_run

        ref = evaluate_run(root, wanted)
    rows = read_metrics(ArtifactStore(root), ref)
    if as_json:
        print_json({"evaluation": ref.model_dump(), "metrics": rows})
    else:
        show_metrics(rows)
