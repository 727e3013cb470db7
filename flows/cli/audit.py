"""``vip audit``: where a caption, an image, a checkpoint or a number came from; whether everything still stands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from flows.cli.common import is_terminal, print_json, print_table, shared_options

if TYPE_CHECKING:
    from vip.lineage.index import LineageIndex

_SHOWN = 20


@click.group()
def command() -> None:
    """Ask where a caption, image, checkpoint or number came from; verify everything.

    Ids may be cut to any unique prefix of four digits or more; artifacts may be given by ref (`vip ref list`).
    """


@contextmanager
def _index(root: str) -> Iterator["LineageIndex"]:
    from vip.lineage.index import open_index

    index = open_index(root, _progress)
    try:
        yield index
    finally:
        index.close()


def _progress(what: str, done: int, total: int) -> None:
    """One line that is redrawn, for a person who waits; nothing in a log."""
    if is_terminal() and total >= 100 and (done % 50 == 0 or done == total):
        end = "\n" if done == total else ""
        click.echo(f"\r  {what}: {done:,} of {total:,}{end}", err=True, nl=False)


def _answer(record: dict[str, Any], as_json: bool) -> None:
    """Print an answer; a link that does not hold makes the command fail."""
    from flows.cli.records import print_record

    print_record(record, as_json)
    if not all(check["ok"] for check in record.get("checks", [])):
        raise SystemExit(1)


@command.command()
@click.argument("caption_id", metavar="ID")
@shared_options
def caption(caption_id: str, root: str, as_json: bool) -> None:
    """The chain behind a caption: image, shard, spec, answers, model, run, code."""
    from vip.lineage.caption import trace_caption

    with _index(root) as index:
        _answer(trace_caption(index, caption_id), as_json)


@command.command()
@click.argument("image", metavar="ID|FILE|NAME")
@shared_options
def image(image: str, root: str, as_json: bool) -> None:
    """What is known of an image, given by the SHA-256 of its bytes, as a file, or by a name it had."""
    from vip.lineage.image import trace_image

    with _index(root) as index:
        _answer(trace_image(index, image), as_json)


@command.command()
@click.argument("checkpoint", metavar="REF|ID")
@shared_options
def checkpoint(checkpoint: str, root: str, as_json: bool) -> None:
    """What a checkpoint was trained on and what was measured on it."""
    from vip.lineage.checkpoint import trace_checkpoint

    with _index(root) as index:
        _answer(trace_checkpoint(index, checkpoint), as_json)


@command.command()
@click.argument("metric_id", metavar="ID")
@shared_options
def metric(metric_id: str, root: str, as_json: bool) -> None:
    """The chain behind a figure: checkpoint, dataset, captions, exam, down to the image bytes."""
    from vip.lineage.metric import trace_metric

    with _index(root) as index:
        record = trace_metric(index, metric_id)
    if not as_json:
        record["data"]["image_bytes"] = record["data"]["image_bytes"][:_SHOWN]
        record["inputs"] = record["inputs"][:_SHOWN]
    _answer(record, as_json)


@command.command()
@click.argument("name", metavar="REF")
@shared_options
def log(name: str, root: str, as_json: bool) -> None:
    """Every artifact that a ref has pointed at, newest first."""
    from flows.cli.records import print_rows
    from vip.lineage.checkpoint import trace_log

    with _index(root) as index:
        entries = trace_log(index, name)
    if as_json:
        print_json(entries)
    else:
        print_rows(entries)


@command.command()
@shared_options
def verify(root: str, as_json: bool) -> None:
    """Re-hash every file, follow every link and every ref; exit with 1 where anything is not as published."""
    from dataclasses import asdict

    from schemas.errors import VipError
    from storage.backend import Backend
    from vip.lineage import verify as verifying

    backend = Backend(root)
    if not any(True for _ in backend.list("published")):
        raise VipError(f"nothing was ever published at {root}", "give --root")
    found = verifying.verify(backend, _progress)
    if as_json:
        print_json(asdict(found) | {"ok": found.ok})
    else:
        for note in found.notes:
            click.echo(f"note     {note.file}: {note.problem}")
        for problem in found.problems:
            click.echo(f"PROBLEM  {problem.file}: {problem.problem}")
        print_table(
            [
                ("artifacts", f"{found.artifacts:,} stand, {found.removed:,} removed on purpose"),
                ("hashed", f"{found.files:,} files, {found.bytes / 1e6:,.1f} MB"),
                ("answers", f"{found.segments:,} segments"),
                ("refs", f"{found.refs:,} entries"),
                ("problems", f"{len(found.problems):,}"),
            ]
        )
    if not found.ok:
        raise SystemExit(1)


@command.command()
@shared_options
def reindex(root: str, as_json: bool) -> None:
    """Build the index anew from the manifests; it is derived and may be deleted at any time."""
    import time

    began = time.monotonic()
    from storage.backend import Backend
    from vip.lineage.index import LineageIndex

    index = LineageIndex(Backend(root), _progress)
    count = index.rebuild()
    done = {
        "artifacts": count,
        "captions": index.db.execute("SELECT count(*) FROM caption").fetchone()[0],
        "metrics": index.db.execute("SELECT count(*) FROM metric").fetchone()[0],
        "seconds": round(time.monotonic() - began, 2),
        "file": str(index.path),
    }
    index.close()
    if as_json:
        print_json(done)
    else:
        print_table(done.items())


@command.command()
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
    with _index(root) as index:
        record = question(index, value)
    if not as_json and not everything and len(record["metrics"]) > _SHOWN:
        record["metrics"] = record["metrics"][:_SHOWN]
    _answer(record, as_json)


@command.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@shared_options
def diff(first: str, second: str, root: str, as_json: bool) -> None:
    """What differs between two caption sets, checkpoints or figures (or any two artifacts of a kind), and why."""
    from vip.lineage.diff import diff as compare

    with _index(root) as index:
        _answer(compare(index, first, second), as_json)


@command.command()
@click.option("--spec", metavar="NAME|FILE", help="Compare all captions with this spec, whatever theirs was called.")
@click.option("--check", is_flag=True, help="Exit with 1 where anything is stale.")
@shared_options
def stale(spec: str | None, check: bool, root: str, as_json: bool) -> None:
    """What refs point at that no longer matches the present prompts, models, code and datasets."""
    from flows.cli.records import print_rows
    from vip.lineage.stale import stale as look

    with _index(root) as index:
        found = look(index, spec)
    if as_json:
        print_json(found)
    elif found:
        print_rows(found)
    else:
        click.echo("nothing is stale")
    if check and found:
        raise SystemExit(1)
