"""``vip retrain``: the whole run from a config."""

from pathlib import Path

import click

from flows.cli.common import print_json, shared_options


@click.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="YAML, see configs/.")
@shared_options
def command(config: Path, root: str, as_json: bool) -> None:
    """Run shard -> caption -> gate -> train -> evaluate -> report, reusing what is done."""
    from flows.cli.common import load_config
    from schemas.retrain_config import RetrainConfig

    wanted = load_config(config, RetrainConfig)
    from flows.cli.demo import show_result
    from flows.console import console
    from flows.run import local_run

    console.quiet = as_json
    with local_run(root):
        from flows.retrain import retrain

        result = retrain(root, wanted)
    if as_json:
        print_json(result)
    else:
        show_result(root, result)
