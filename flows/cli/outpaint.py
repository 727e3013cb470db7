"""``vip outpaint``: continue one picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.common import print_json, print_table, shared_options

if TYPE_CHECKING:
    from vip.diffusion.pipeline import VIPOutpaintPipeline


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--checkpoint", required=True, help="A ref, an id, or the folder of a pipeline.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="PNG to write; its lineage goes into it.")
@click.option("--expand", help="Pixels or per cent to add: left,top,right,bottom, such as 64,0,64,0 or 25%,0,25%,0.")
@click.option("--mask", type=click.Path(path_type=Path), help="Instead: a picture that is white where to generate.")
@click.option("--center", help="What the picture shows.")
@click.option("--surrounding", help="What to generate around it.")
@click.option("--keywords", help="Words the surrounding must hold, by comma; the model at --endpoint writes the rest.")
@click.option("--endpoint", help="A vLLM server that proposes the texts that are not given (see `vip serve`).")
@click.option("--spec", default="nano-imagine", show_default=True, help="How it is asked: a spec that imagines.")
@click.option(
    "--count", type=click.IntRange(1, 64), default=1, show_default=True, help="Results; several make a sheet."
)
@click.option("--steps", type=click.IntRange(1, 1000), default=30, show_default=True)
@click.option("--guidance", type=click.FloatRange(0, 50), default=3.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--strength", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the refinement.")
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
    spec: str,
    root: str,
    as_json: bool,
    **values: Any,
) -> None:
    """Extend IMAGE, or generate what a mask marks; the picture's own pixels stay as they are.

    What it shows and what to generate are said by --center and --surrounding. What is not said is proposed by the
    model at --endpoint; without one it stays open.
    """
    from flows.cli.common import validated
    from schemas.errors import VipError
    from schemas.outpaint_settings import OutpaintSettings

    settings = validated(OutpaintSettings, "vip outpaint", **values)
    if keywords is not None and surrounding is not None:
        raise VipError("--keywords and --surrounding are both given", "give the whole text or keywords, not both")
    words = tuple(word.strip() for word in (keywords or "").split(",") if word.strip())
    if words and not endpoint:
        # Nobody is there to write a sentence around them: the keywords are the text.
        surrounding = ", ".join(words)

    folder, named = _find(root, checkpoint)

    def load() -> "VIPOutpaintPipeline":
        from vip.outpaint.load import load_outpainter

        return load_outpainter(folder)

    from vip.outpaint.canvas import Canvas
    from vip.outpaint.job import outpaint_file

    def ask(canvas: Canvas) -> tuple[str, str]:
        from vip.outpaint.propose import SIDE, imagining_spec, propose

        asked = imagining_spec(spec, words)
        return propose(str(endpoint), asked, canvas, 64 if asked.model.id == "nano" else SIDE)

    written = outpaint_file(
        image,
        out,
        load,
        named,
        expand,
        mask,
        center,
        surrounding,
        ask if endpoint else None,
        settings,
        None if as_json else _show,
    )
    if as_json:
        files = {"files": [str(path) for path in written.files], "sheet": str(written.sheet) if written.sheet else None}
        texts = {"center": written.center, "surrounding": written.surrounding, "cut": written.cut}
        print_json({**files, **texts, "checkpoint": named})
        return
    rows = [("centre", written.center or "(nothing said)"), ("surrounding", written.surrounding or "(nothing said)")]
    if written.cut:
        rows.append(("not read", f"{written.cut[:120]} (beyond what the model reads)"))
    rows += [("written", str(path)) for path in written.files]
    if written.sheet:
        rows.append(("sheet", str(written.sheet)))
    print_table(rows)


def _find(root: str, name: str) -> tuple[Path, dict[str, Any]]:
    """The pipeline's folder, and how the lineage names it."""
    from schemas.errors import VipError

    if (Path(name) / "model_index.json").is_file():
        return Path(name), {"folder": Path(name).name}
    from storage.store import ArtifactStore
    from vip.evaluation.sample import pipeline_folder
    from vip.lineage.index import open_index
    from vip.lineage.resolve import resolve_artifact

    index = open_index(root)
    try:
        row = resolve_artifact(index, name, ("checkpoint",))
    finally:
        index.close()
    store = ArtifactStore(root)
    manifest = store.get("checkpoint", row["key"])
    if manifest is None:
        raise VipError(f"checkpoint {name} was removed", "give another")
    ref = manifest.ref.model_dump(mode="json")
    return store.local(manifest) / pipeline_folder(manifest), ref


def _show(what: str, done: int, total: int) -> None:
    from flows.cli.common import is_terminal

    if is_terminal():
        click.echo(f"\r{what}: step {done} of {total} ", err=True, nl=done == total)
