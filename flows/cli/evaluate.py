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
    from flows.cli.artifacts import find_artifact
    from flows.console import console
    from flows.run import local_run
    from schemas.errors import VipError
    from schemas.tables import METRICS
    from storage.store import ArtifactStore
    from storage.tables import read_table

    store = ArtifactStore(root)
    missing = [name for name in wanted.evaluate.needs if name not in wanted.prompts]
    if missing:
        raise VipError(f"{config}: prompts.{missing[0]} is missing", "name the caption set that is pinned for it")
    checkpoint = find_artifact(store, "checkpoint", wanted.checkpoint).ref
    dataset = find_artifact(store, "dataset", wanted.dataset).ref
    prompts = {what: find_artifact(store, "caption_set", name, "captions").ref for what, name in wanted.prompts.items()}
    console.quiet = as_json
    with local_run(root):
        from flows.evaluate import evaluate
        from storage.refs import Refs

        ref = evaluate(root, checkpoint, dataset, prompts, wanted.evaluate)
        Refs(store.backend).set(f"evaluation/{wanted.name}", ref)
    rows = read_table(store.read(store.require(ref), "metrics.parquet"), METRICS).to_pylist()
    if as_json:
        print_json({"evaluation": ref.model_dump(), "metrics": rows})
        return
    header = ("metric", "setting", "value", "images", "id")
    print_table(
        [(row["metric"], row["setting"], f"{row['value']:.4g}", row["n"], row["metric_id"][:12]) for row in rows],
        header,
    )
