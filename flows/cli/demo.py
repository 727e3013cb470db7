"""``vip demo``: the whole run on nano models."""

from pathlib import Path

import click

from flows.cli.common import print_json, shared_options


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
    from flows.cli.result import show_result
    from flows.console import console
    from flows.run import drawn_folder, local_run

    console.quiet = as_json
    with local_run(root):
        from flows.demo import demo_config
        from flows.retrain import retrain
        from vip.nano.dataset import write_scenes

        source = images or str(drawn_folder(root, "demo-images"))
        if images is None:
            write_scenes(Path(source), size)  # what stands there already is the user's to change
        console.say(f"Images: {source}")
        name = "demo" if images is None else "photos"
        result = retrain(root, demo_config(source, name, steps, drawn=images is None, endpoints=endpoints))
    if as_json:
        print_json(result)
        return
    show_result(root, result)
