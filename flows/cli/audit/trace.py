"""``vip audit caption|image|checkpoint|picture|metric|log``: where something came from."""

from pathlib import Path

import click

from flows.cli.audit.answer import SHOWN, answer, opened
from flows.cli.common import print_json, shared_options


@click.command()
@click.argument("caption_id", metavar="ID")
@shared_options
def caption(caption_id: str, root: str, as_json: bool) -> None:
    """The chain behind a caption: image, shard, spec, answers, model, run, code."""
    from vip.lineage.caption import trace_caption

    with opened(root) as index:
        answer(trace_caption(index, caption_id), as_json)


@click.command()
@click.argument("image", metavar="ID|FILE|NAME")
@shared_options
def image(image: str, root: str, as_json: bool) -> None:
    """What is known of an image, given by the SHA-256 of its bytes, as a file, or by a name it had."""
    from vip.lineage.image import trace_image

    with opened(root) as index:
        answer(trace_image(index, image), as_json)


@click.command()
@click.argument("checkpoint", metavar="REF|ID")
@shared_options
def checkpoint(checkpoint: str, root: str, as_json: bool) -> None:
    """What a checkpoint was trained on and what was measured on it."""
    from vip.lineage.checkpoint import trace_checkpoint

    with opened(root) as index:
        answer(trace_checkpoint(index, checkpoint), as_json)


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@shared_options
def picture(file: Path, root: str, as_json: bool) -> None:
    """What made a PNG of `vip outpaint`: texts, seed and checkpoint, and where that checkpoint came from."""
    from vip.lineage.picture import trace_picture
    from vip.outpaint.files import read_lineage

    lineage = read_lineage(file)
    with opened(root) as index:
        answer(trace_picture(index, lineage), as_json)


@click.command()
@click.argument("metric_id", metavar="ID")
@shared_options
def metric(metric_id: str, root: str, as_json: bool) -> None:
    """The chain behind a figure: checkpoint, dataset, captions, exam, down to the image bytes."""
    from vip.lineage.metric import trace_metric

    with opened(root) as index:
        record = trace_metric(index, metric_id)
    if not as_json:
        record["data"]["image_bytes"] = record["data"]["image_bytes"][:SHOWN]
        record["inputs"] = record["inputs"][:SHOWN]
    answer(record, as_json)


@click.command()
@click.argument("name", metavar="REF")
@shared_options
def log(name: str, root: str, as_json: bool) -> None:
    """Every artifact that a ref has pointed at, newest first."""
    from flows.cli.records import print_rows
    from vip.lineage.checkpoint import trace_log

    with opened(root) as index:
        entries = trace_log(index, name)
    if as_json:
        print_json(entries)
    else:
        print_rows(entries)
