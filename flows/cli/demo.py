"""``vip demo``: the whole run on nano models."""

from pathlib import Path
from typing import Any

import click

from flows.cli.common import print_json, print_table, shared_options


@click.command()
@click.option("--images", type=click.Path(file_okay=False), help="A folder of your own images instead of drawn scenes.")
@click.option("--size", type=click.IntRange(20), default=400, show_default=True, help="Scenes to draw.")
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True, help="Training steps.")
@click.option("--endpoint", "endpoints", multiple=True, help="A server that runs already; may be given several times.")
@shared_options
def command(images: str | None, size: int, steps: int, endpoints: tuple[str, ...], root: str, as_json: bool) -> None:
    """Run shard -> caption -> gate -> train -> evaluate -> report on small models, on a CPU.

    Run it again and it says what it reused.
    """
    from flows.console import console
    from flows.run import local_run, scratch_folder

    console.quiet = as_json
    with local_run(root):
        from flows.demo import demo_config
        from flows.retrain import retrain
        from vip.nano.dataset import write_scenes

        source = images or str(scratch_folder(root).parent / "demo-images")
        if images is None:
            write_scenes(Path(source), size)  # what stands there already is the user's to change
        console.say(f"Images: {source}")
        name = "demo" if images is None else "photos"
        result = retrain(root, demo_config(source, name, steps, drawn=images is None, endpoints=endpoints))
    if as_json:
        print_json(result)
        return
    show_result(root, result)


def show_result(root: str, result: Any) -> None:
    """The end of a run: what was made, what was reused, where it is, what to do next."""
    from flows.run import scratch_folder
    from schemas.tables import CAPTIONS, METRICS
    from storage.store import ArtifactStore
    from storage.tables import read_table

    store = ArtifactStore(root)
    click.echo()
    print_table(
        [(one.name, f"{one.seconds:.1f} s", one.made, one.reused, one.note) for one in result.summary.stages],
        ("stage", "time", "made", "reused", ""),
    )
    metrics = read_table(store.read(store.require(result.evaluation), "metrics.parquet"), METRICS).to_pylist()
    click.echo()
    print_table(
        [(row["metric"], row["setting"], f"{row['value']:.4g}", row["n"], row["metric_id"][:12]) for row in metrics],
        ("metric", "setting", "value", "images", "id"),
    )
    captions = store.require(store.require(result.captions).inputs[min(store.require(result.captions).inputs)])
    caption = read_table(store.read(captions, "captions.parquet"), CAPTIONS, ["caption_id"]).column(0)[0].as_py()
    page = store.local(store.require(result.report)) / "report.html"
    checkpoint = store.local(store.require(result.checkpoint)) / "pipeline"
    click.echo()
    if not result.requests and not result.steps:
        click.echo("Everything was found made: no caption was requested and no training step taken.")
    print_table(
        [
            ("report", page),
            ("checkpoint", checkpoint),
            ("root", Path(scratch_folder(root).parent)),
            ("next", f"vip audit caption {caption[:12]}"),
            ("", f"vip audit metric {metrics[0]['metric_id'][:12]}"),
            ("", "vip audit verify"),
        ]
    )
