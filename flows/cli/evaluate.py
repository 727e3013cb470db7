"""``vip evaluate``: a checkpoint in an exam."""

from pathlib import Path

import click

from flows.cli.common import print_json, print_table, shared_options


@click.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="YAML, see configs/.")
@shared_options
def command(config: Path, root: str, as_json: bool) -> None:
    """Measure a checkpoint on held-out images and pinned prompt sets."""
    from flows.cli.common import load_config
    from schemas.evaluate_run import EvaluateRun

    wanted = load_config(config, EvaluateRun)
    from flows.console import console
    from flows.run import local_run
    from schemas.tables import METRICS
    from storage.store import ArtifactStore
    from storage.tables import read_table

    console.quiet = as_json
    with local_run(root):
        from flows.evaluate import evaluate_run

        ref = evaluate_run(root, wanted)
    store = ArtifactStore(root)
    rows = read_table(store.read(store.require(ref), "metrics.parquet"), METRICS).to_pylist()
    if as_json:
        print_json({"evaluation": ref.model_dump(), "metrics": rows})
        return
    header = ("metric", "setting", "value", "images", "id")
    print_table(
        [(row["metric"], row["setting"], f"{row['value']:.4g}", row["n"], row["metric_id"][:12]) for row in rows],
        header,
    )
