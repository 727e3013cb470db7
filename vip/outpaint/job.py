"""Job: from files to files, with the lineage of every result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.outpaint_settings import OutpaintSettings
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.outpaint.canvas import Canvas, make_canvas, open_picture
from vip.outpaint.files import check_target, contact_sheet, write_png
from vip.outpaint.outpaint import Progress, outpaint_canvas

Propose = Callable[[Canvas], tuple[str, str]]
"""Centre and surrounding text for a canvas."""


class Written(NamedTuple):
    """What a job left: the results, the sheet where there are several, the texts, and what the model could not read."""

    files: list[Path]
    sheet: Path | None
    center: str
    surrounding: str
    cut: str


def outpaint_file(
    image: Path,
    out: Path,
    load: Callable[[], VIPOutpaintPipeline],
    checkpoint: dict[str, Any],
    expand: str | None = None,
    mask: Path | None = None,
    center: str | None = None,
    surrounding: str | None = None,
    propose: Propose | None = None,
    settings: OutpaintSettings | None = None,
    progress: Progress | None = None,
) -> Written:
    """Continue a picture file and write the results.

    Everything that can be wrong with the call is found before a model is loaded.

    Args:
        image: the picture.
        out: a ``.png``; several results become ``<name>-1.png`` and so on, and ``out`` is their contact sheet.
        load: loads the pipeline.
        checkpoint: what names it in the lineage.
        expand, mask: one of the two, see :func:`vip.outpaint.outpaint.outpaint`.
        center, surrounding: texts; a text that is None is proposed, or empty where nobody proposes.
        propose: asks a multimodal model.
        settings: sampler, seeds, number of results.
        progress: called with (what, done, total).

    Raises:
        VipError: one line that says what is wrong and what to do.
    """
    settings = settings or OutpaintSettings()
    check_target(out)
    targets = [out]
    if settings.count > 1:
        targets = [out.with_name(f"{out.stem}-{number}.png") for number in range(1, settings.count + 1)]
        for target in targets:
            check_target(target)
    if out.resolve() == image.resolve():
        raise VipError(f"--out {out} is the picture itself", "choose another name")
    canvas = make_canvas(open_picture(image), expand, mask)
    proposed = propose is not None and (center is None or surrounding is None)
    if propose is not None and proposed:
        suggested = propose(canvas)
        center, surrounding = (
            given if given is not None else ours for given, ours in zip((center, surrounding), suggested, strict=True)
        )
    center, surrounding = center or "", surrounding or ""
    results = outpaint_canvas(canvas, load(), center, surrounding, settings, progress)
    lineage = {
        "checkpoint": checkpoint,
        "image": {"name": image.name, "sha256": sha256_hex(image.read_bytes())},
        "mask_sha256": sha256_hex(np.packbits(canvas.mask).tobytes()),
        "expand": expand,
        "center_prompt": center,
        "surrounding_prompt": surrounding,
        "proposed": proposed,
        "settings": settings.model_dump(mode="json", exclude={"seed", "count"}),
    }
    for result, target in zip(results, targets, strict=True):
        write_png(target, result.image, {**lineage, "seed": result.seed, "scales": list(result.scales)})
    sheet = None
    if settings.count > 1:
        sheet = out
        seeds = [result.seed for result in results]
        write_png(sheet, contact_sheet([result.image for result in results]), {**lineage, "seeds": seeds})
    return Written(targets, sheet, center, surrounding, results[0].cut)
