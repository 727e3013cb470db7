"""``vip compare``: checkpoints in the same exam."""

import click

from flows.cli.common import print_json, shared_options


@click.command()
@click.argument("evaluations", nargs=-1, required=True)
@click.option("--margin", "margins", multiple=True, metavar="METRIC=VALUE", help="How much worse is not worse.")
@click.option("--crossing", metavar="METRIC", help="Lay out one metric over checkpoints and prompt sets instead.")
@shared_options
def command(
    evaluations: tuple[str, ...], margins: tuple[str, ...], crossing: str | None, root: str, as_json: bool
) -> None:
    """Compare two EVALUATIONS image by image: better, not worse, worse, or cannot tell.

    The second is compared with the first; a gain above 0 is better. With --crossing, any number of evaluations are laid
    side by side, which shows whether the model or the captions moved a number.
    """
    from flows.artifacts import find_artifact
    from flows.cli.records import print_rows
    from flows.cli.result import show_crossing
    from schemas.errors import VipError
    from storage.store import ArtifactStore
    from vip.evaluation.compare import compare
    from vip.evaluation.compare import crossing as cross

    stated = dict(_margin(text) for text in margins)
    store = ArtifactStore(root)
    found = [find_artifact(store, "evaluation", name) for name in evaluations]
    if crossing is None and len(found) != 2:
        raise VipError(f"{len(found)} evaluations are given", "give two to compare, or --crossing METRIC for more")
    rows = cross(store, found, crossing) if crossing else compare(store, found[0], found[1], stated)
    if crossing and not rows:
        raise VipError(f"'{crossing}' was measured in none of them", "see `vip audit metric`")
    if as_json:
        print_json(rows)
    elif crossing:
        show_crossing(rows)
    else:
        print_rows([{name: _rounded(value) for name, value in row.items()} for row in rows])


def _margin(text: str) -> tuple[str, float]:
    from schemas.errors import VipError

    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise VipError(f"--margin {text} is no METRIC=VALUE", "give one such as kid=0.005") from error


def _rounded(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
