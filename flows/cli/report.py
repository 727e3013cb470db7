"""``vip report``: the page of a finished run, as a file."""

from pathlib import Path

import click

from flows.cli.common import print_json, shared_options


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@click.option("--name", default="demo", show_default=True, help="Name of the run: its ref is report/NAME.")
@shared_options
def command(out: Path, name: str, root: str, as_json: bool) -> None:
    """Write the report page of a finished run to a folder."""
    from flows.artifacts import find_artifact
    from schemas.errors import VipError
    from storage.store import ArtifactStore

    store = ArtifactStore(root)
    page = find_artifact(store, "report", name)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_bytes(store.read(page, "report.html"))
    except OSError as error:
        raise VipError(f"{out} cannot be written: {error.strerror}", "give another --out") from error
    if as_json:
        print_json({"report": str(out / "report.html"), "digest": page.digest})
    else:
        click.echo(out / "report.html")
