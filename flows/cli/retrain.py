"""``vip retrain``: the whole run from a config."""

from pathlib import Path

import click

from flows.cli.common import config_option, load_config, print_json, shared_options


@click.command()
@config_option
@shared_options
def command(config: Path, root: str, as_json: bool) -> None:
    """Run shard -> caption -> gate -> train -> evaluate -> report, reusing what is done."""
    from schemas.retrain_config import RetrainConfig

    wanted = load_config(config, RetrainConfig)
    from flows.cli.result import show_result
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
