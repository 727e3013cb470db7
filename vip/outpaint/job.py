"""Job: from a picture file to picture files, with the lineage of every result."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.outpaint_settings import OutpaintSettings
from storage.backend import Backend
from storage.scratch import scratch_folder
from vip.outpaint.canvas import make_canvas, open_picture
from vip.outpaint.files import check_target, contact_sheet, thumbnail, write_png
from vip.outpaint.load import find_outpainter, load_outpainter
from vip.outpaint.outpaint import Progress, outpaint_canvas
from vip.outpaint.propose import Proposer


class Written(NamedTuple):
    """What a job left.

    Attributes:
        files: the results.
        sheet: their contact sheet, where there are several.
        center, surrounding: the texts that they were painted with.
        proposed_by: the model that proposed what was not given; empty where nobody was asked.
        cut: the end of a text that the painter could not read; empty where it read all.
        checkpoint: what painted them, as in their lineage.
    """

    files: list[Path]
    sheet: Path | None
    center: str
    surrounding: str
    proposed_by: str
    cut: str
    checkpoint: dict[str, str]


def outpaint_file(
    image: Path | str,
    out: Path | str,
    checkpoint: str,
    root: str = "./.vip",
    expand: str | tuple[int, int, int, int] | None = None,
    mask: Path | str | None = None,
    center: str | None = None,
    surrounding: str | None = None,
    keywords: str | Sequence[str] = (),
    endpoint: str | None = None,
    spec: str | None = None,
    settings: OutpaintSettings | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Written:
    """Continue a picture file and write the results: what ``vip outpaint`` does, as one call.

    Everything that can be wrong with the call is found before a server is started or a model is loaded.

    Args:
        image: the picture.
        out: a ``.png``; several results become ``<name>-1.png`` and so on, and ``out`` is their contact sheet.
        checkpoint: a ref, an id, or the folder of a pipeline.
        root: URL of the artifact store that holds the checkpoint.
        expand, mask: one of the two, see :func:`vip.outpaint.outpaint.outpaint`.
        center, surrounding: texts, which may be empty. Where the surrounding is None a multimodal model looks at the
            picture and proposes what is missing. A centre alone is proposed only by a given endpoint, for the sake of
            it no server is started.
        keywords: what the proposed surrounding must hold; a string is split at its commas.
        endpoint, spec: see :class:`vip.outpaint.propose.Proposer`.
        settings: sampler, seeds, number of results.
        progress: called with (what, done, total).
        say: told of what takes a while.

    Raises:
        VipError: one line that says what is wrong and what to do.
    """
    image, out, settings = Path(image), Path(out), settings or OutpaintSettings()
    listed = keywords.split(",") if isinstance(keywords, str) else keywords
    keywords = tuple(word.strip() for word in listed if word.strip())
    if keywords and surrounding is not None:
        raise VipError("keywords and a surrounding are both given", "give the whole text or keywords, not both")
    folder, named = find_outpainter(root, checkpoint)
    targets = _targets(image, mask, out, settings.count)
    canvas = make_canvas(open_picture(image), expand, mask)
    ask = Proposer(scratch_folder(Backend(root)) / "logs" / "outpaint.log", endpoint, spec, keywords, say)
    proposal = None
    if surrounding is None or (center is None and endpoint is not None):
        proposal = ask(canvas)
        center = proposal.center if center is None else center
        surrounding = proposal.surrounding if surrounding is None else surrounding
    center, surrounding = center or "", surrounding or ""
    pipeline = load_outpainter(folder)
    lineage = {
        "checkpoint": named,
        "image": {"name": image.name, "sha256": sha256_hex(image.read_bytes())},
        "mask_sha256": sha256_hex(np.packbits(canvas.mask).tobytes()),
        "expand": expand,
        "center_prompt": center,
        "surrounding_prompt": surrounding,
        "keywords": list(keywords),
        "proposed_by": {"model": proposal.model, "spec": proposal.spec} if proposal else None,
        "settings": settings.model_dump(mode="json", exclude={"seed", "count"}),
    }
    small, seeds, cut = [], [], ""
    results = outpaint_canvas(canvas, pipeline, center, surrounding, settings, progress)
    for result, target in zip(results, targets, strict=True):
        # Each is written before the next is painted: a run that is killed keeps what it has.
        write_png(target, result.image, {**lineage, "seed": result.seed, "scales": list(result.scales)})
        small.append(thumbnail(result.image))
        seeds.append(result.seed)
        cut = result.cut
    sheet = None
    if settings.count > 1:
        sheet = out
        write_png(sheet, contact_sheet(small), {**lineage, "seeds": seeds})
    proposed_by = proposal.model if proposal else ""
    return Written(targets, sheet, center, surrounding, proposed_by, cut, named)


def _targets(image: Path, mask: Path | str | None, out: Path, count: int) -> list[Path]:
    """Where the results go, each checked."""
    given = {image.resolve(): "the picture"} | ({Path(mask).resolve(): "the mask"} if mask is not None else {})
    targets = [out] if count == 1 else [out.with_name(f"{out.stem}-{number}.png") for number in range(1, count + 1)]
    for target in dict.fromkeys((out, *targets)):
        check_target(target)
        if what := given.get(target.resolve()):
            raise VipError(f"--out {target} is {what} itself", "choose another name")
    return targets
