"""``vip export``: the lineage and the data for other tools."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flows.cli.audit.answer import opened
from flows.cli.common import print_json, shared_options


@click.group()
def command() -> None:
    """Write captions, a dataset or the lineage in the formats of other tools."""


@command.command()
@click.option("--out", type=click.Path(path_type=Path), help="File of events, one a line.")
@click.option(
    "--transport",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also send them: a YAML file with the `transport:` section of an OpenLineage client (http, kafka, ...).",
)
@shared_options
def openlineage(out: Path | None, transport: Path | None, root: str, as_json: bool) -> None:
    """OpenLineage events (NDJSON) of every artifact that stands.

    Where the transport takes no event, the file is written whole all the same and the command fails.
    """
    from openlineage.client.serde import Serde

    from flows.console import console
    from schemas.errors import VipError
    from vip.lineage.export.openlineage import events

    if out is None and transport is None:
        raise click.UsageError("give --out FILE, --transport FILE, or both")
    console.quiet = as_json
    send = _client(transport) if transport else None
    count, sent, refused = 0, 0, None
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    with opened(root, console.progress) as index, (out or Path("/dev/null")).open("w", encoding="utf-8") as file:
        for event in events(index, console.progress):
            file.write(Serde.to_json(event) + "\n")
            count += 1
            if send is None or refused is not None:
                continue
            try:
                send(event)
                sent += 1
            except VipError as error:
                refused = error
                if out is None:
                    break
    if refused is not None:
        kept = f"; all {count:,} events are in {out}" if out else ""
        raise VipError(f"{refused.reason}, after {sent:,} events{kept}", refused.remedy)
    done = {"events": count, "file": str(out) if out else None, "sent": sent}
    print_json(done) if as_json else click.echo(
        f"{count:,} events" + (f" in {out}" if out else "") + (f", {sent:,} sent" if send else "")
    )


@command.command()
@click.argument("dataset", metavar="NAME|ID")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder.")
@click.option("--license", "licence", help="Licence of the images, as a URL or an SPDX name, for the card.")
@shared_options
def dataset(dataset: str, out: Path, licence: str | None, root: str, as_json: bool) -> None:
    """A dataset as a folder of WebDataset shards and Parquet tables, with its Croissant card."""
    from flows.console import console
    from vip.lineage.export.publish import export_dataset

    console.quiet = as_json
    with opened(root, console.progress) as index:
        done = export_dataset(index, dataset, out, licence, console.progress)
    if as_json:
        print_json(done | {"folder": str(out)})
    else:
        click.echo(f"{done['samples']:,} samples in {done['shards']:,} shards in {out}")


@command.command()
@click.argument("captions", metavar="REF|ID")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder.")
@shared_options
def captions(captions: str, out: Path, root: str, as_json: bool) -> None:
    """A caption set with its images, as a folder for Hugging Face: load_dataset("imagefolder", data_dir=OUT)."""
    from flows.console import console
    from vip.lineage.export.publish import export_captions

    console.quiet = as_json
    with opened(root, console.progress) as index:
        done = export_captions(index, captions, out, console.progress)
    if as_json:
        print_json(done | {"folder": str(out)})
    else:
        click.echo(f"{done['rows']:,} captions of {done['images']:,} images in {out}")


@command.command()
@click.argument("dataset", metavar="NAME|ID")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write the card to.")
@click.option("--license", "licence", help="Licence of the images, as a URL or an SPDX name, for the card.")
@shared_options
def croissant(dataset: str, out: Path, licence: str | None, root: str, as_json: bool) -> None:
    """The Croissant 1.1 card of a dataset as it lies in the root; `vip export dataset` writes card and files."""
    import json

    from flows.console import console
    from vip.lineage.export.croissant import card
    from vip.lineage.resolve import resolve_live

    with opened(root, console.progress) as index:
        made = card(index, resolve_live(index, dataset, ["dataset"]), published=False, licence=licence)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        print_json({"file": str(out)})
    else:
        click.echo(f"card in {out}")


def _client(path: Path) -> Callable[[Any], None]:
    """A function that sends one event by the transport that a file configures.

    Raises:
        VipError: where the file or its transport is no good, or nobody takes the event.
    """
    import copy

    import yaml
    from openlineage.client import OpenLineageClient

    from schemas.errors import VipError

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        client = OpenLineageClient(config=config)
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise VipError(f"transport {path}: {reason}", "give `transport: {type: http, url: ...}`") from error

    def send(event: Any) -> None:
        try:
            client.emit(copy.deepcopy(event))  # it adds facets of its own, and events share their run
        except Exception as error:
            raise VipError(f"the OpenLineage server took no event: {error}", "check the transport's url") from error

    return send
