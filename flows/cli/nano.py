"""``vip nano``: the small models of the drawn world."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import click

from flows.cli.common import print_json, shared_options


@click.group()
def command() -> None:
    """Train or score the small models of the drawn world."""


@command.command()
@click.option("--seeds", default="0:2000", show_default=True, help="START:STOP; seeds that were never trained on.")
@click.option("--pictures", type=click.IntRange(0), default=256, show_default=True, help="How many scenes are painted.")
@click.option("--endpoint", help="A server of the captioner that runs already. [default: our own]")
@click.option("--no-captioner", is_flag=True, help="Leave the captioner out.")
@shared_options
def score(seeds: str, pictures: int, endpoint: str | None, no_captioner: bool, root: str, as_json: bool) -> None:
    """Measure the whole family on held-out scenes, the captioner through vLLM; prints JSON."""
    from vip.nano.score import parse_seeds
    from vip.nano.score import score as measure

    chosen = parse_seeds(seeds)
    with _captioner(root, endpoint, no_captioner) as served:
        print_json(measure(chosen, served, obedience_pictures=pictures))


@contextlib.contextmanager
def _captioner(root: str, endpoint: str | None, left_out: bool) -> Iterator[str | None]:
    if left_out or endpoint:
        yield None if left_out else endpoint
        return
    from flows.run import scratch_folder
    from vip.serving.engine import Engine

    with Engine("nano", log=scratch_folder(root) / "logs" / "serve.log") as engine:
        yield engine.endpoint


@command.command()
@click.option("--scratch", type=click.Path(path_type=Path), help="[default: nano in the root]")
@click.option("--weights", type=click.Path(path_type=Path), default=Path("vip/nano/weights"), show_default=True)
@shared_options
def train(scratch: Path | None, weights: Path, root: str, as_json: bool) -> None:
    """Train the whole family from seeds; can be interrupted and run again."""
    from flows.run import drawn_folder
    from vip.nano.train import train_family

    train_family(scratch or drawn_folder(root, "nano"), weights)
    if as_json:
        print_json({"weights": str(weights)})
