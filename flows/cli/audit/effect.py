"""``vip audit impact|diff|stale``: what used something, what differs, what no longer matches."""

import click

from flows.cli.audit.answer import SHOWN, answer, opened
from flows.cli.common import print_json, shared_options


@click.command()
@click.option("--image", metavar="ID|FILE|NAME", help="Given by its SHA-256, as a file, or by a name it had.")
@click.option("--prompt", metavar="SPEC|FILE|WORDS", help="A spec's name, id or file, or words of its templates.")
@click.option("--model", metavar="ID|REF", help="A captioning model's id or revision, or a model trained from.")
@click.option("--dataset", metavar="NAME|ID", help="A dataset, by name or id.")
@click.option("--all", "everything", is_flag=True, help="List every figure; by default the first 20. --json lists all.")
@shared_options
def impact(
    image: str | None,
    prompt: str | None,
    model: str | None,
    dataset: str | None,
    everything: bool,
    root: str,
    as_json: bool,
) -> None:
    """Every caption, checkpoint and number that used an image, prompt, model or dataset. Give one of the options."""
    from vip.lineage import impact as impacts

    asked = [
        (question, value)
        for question, value in (
            (impacts.impact_of_image, image),
            (impacts.impact_of_prompt, prompt),
            (impacts.impact_of_model, model),
            (impacts.impact_of_dataset, dataset),
        )
        if value is not None
    ]
    if len(asked) != 1:
        raise click.UsageError("give exactly one of --image, --prompt, --model and --dataset")
    (question, value) = asked[0]
    with opened(root) as index:
        record = question(index, value)
    if not as_json and not everything and len(record["metrics"]) > SHOWN:
        record["metrics"] = record["metrics"][:SHOWN]
    answer(record, as_json)


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@shared_options
def diff(first: str, second: str, root: str, as_json: bool) -> None:
    """What differs between two caption sets, checkpoints or figures (or any two artifacts of a kind), and why."""
    from vip.lineage.diff import diff as compare

    with opened(root) as index:
        answer(compare(index, first, second), as_json)


@click.command()
@click.option("--spec", metavar="NAME|FILE", help="Compare all captions with this spec, whatever theirs was called.")
@click.option("--check", is_flag=True, help="Exit with 1 where anything is stale.")
@shared_options
def stale(spec: str | None, check: bool, root: str, as_json: bool) -> None:
    """What refs point at that no longer matches the present prompts, models, code and datasets."""
    from flows.cli.records import print_rows
    from vip.lineage.stale import stale as look

    with opened(root) as index:
        found = look(index, spec)
    if as_json:
        print_json(found)
    elif found:
        print_rows(found)
    else:
        click.echo("nothing is stale")
    if check and found:
        raise SystemExit(1)
