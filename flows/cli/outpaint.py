"""``vip outpaint``: continue one picture."""

from pathlib import Path
from typing import Any

import click

from flows.cli.common import print_json, print_table, shared_options


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--checkpoint", required=True, help="A ref, an id, or the folder of a pipeline.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="PNG to write; its lineage goes into it.")
@click.option("--expand", help="Pixels or per cent to add: left,top,right,bottom, such as 64,0,64,0 or 25%,0,25%,0.")
@click.option("--mask", type=click.Path(path_type=Path), help="Instead: a picture that is white where to generate.")
@click.option("--center", help="What the picture shows.")
@click.option("--surrounding", help="What to generate around it.")
@click.option(
    "--keywords", help="Instead: words that it must hold, by comma; a model that looks at it writes the rest."
)
@click.option("--endpoint", help="The server of that model. [default: vLLM is started for the question]")
@click.option("--spec", help="How that model is asked: a spec that imagines. [default: by the model]")
@click.option(
    "--count", type=click.IntRange(1, 64), default=1, show_default=True, help="Results; several make a sheet."
)
@click.option("--steps", type=click.IntRange(1, 1000), default=30, show_default=True)
@click.option("--guidance", type=click.FloatRange(0, 50), default=3.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--strength", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Of the refinement.")
@click.option("--tiles", type=click.IntRange(0, 4096), default=48, show_default=True, help="Refined at most.")
@click.option("--feather", type=click.IntRange(0, 512), help="Pixels blended at the seam. [default: by scale]")
@shared_options
def command(
    image: Path,
    checkpoint: str,
    out: Path,
    expand: str | None,
    mask: Path | None,
    center: str | None,
    surrounding: str | None,
    keywords: str | None,
    endpoint: str | None,
    spec: str | None,
    root: str,
    as_json: bool,
    **values: Any,
) -> None:
    """Extend IMAGE, or generate what a mask marks; the picture's own pixels stay as they are.

    What it shows and what to generate are said by --center and --surrounding. Where nothing says what to generate, a
    multimodal model looks at the picture and proposes it; --surrounding "" leaves it open.
    """
    from flows.cli.common import validated
    from flows.console import console
    from schemas.outpaint_settings import OutpaintSettings

    settings = validated(OutpaintSettings, "vip outpaint", **values)
    console.quiet = as_json
    from vip.outpaint.job import outpaint_file

    written = outpaint_file(
        image,
        out,
        checkpoint,
        root,
        expand,
        mask,
        center,
        surrounding,
        keywords or "",
        endpoint,
        spec,
        settings,
        None if as_json else _show,
        console.say,
    )
    if as_json:
        print_json(written._asdict())
        return
    rows = [("centre", written.center or "(nothing said)"), ("surrounding", written.surrounding or "(nothing said)")]
    if written.proposed_by:
        rows.append(("proposed by", written.proposed_by))
    if written.cut:
        rows.append(("not read", f"{written.cut[:120]} (beyond what the model reads)"))
    rows += [("written", str(path)) for path in written.files]
    if written.sheet:
        rows.append(("sheet", str(written.sheet)))
    print_table(rows)


def _show(what: str, done: int, total: int) -> None:
    from flows.cli.common import is_terminal

    if is_terminal():
        click.echo(f"\r{what}: step {done} of {total} ", err=True, nl=done == total)
