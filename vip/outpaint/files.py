"""Files: results with their lineage in the PNG, and several of them on one sheet."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from schemas.canonical import canonical_json
from schemas.errors import VipError

CHUNK = "vip"
"""Keyword of the PNG text chunk that holds the lineage as JSON."""

_GAP = 8


def check_target(path: Path) -> None:
    """Find out before the work whether the result can be written.

    Raises:
        VipError: where it cannot.
    """
    if path.suffix.lower() != ".png":
        raise VipError(f"--out {path} is no .png", "give a name that ends in .png; the lineage is written into it")
    if path.is_dir():
        raise VipError(f"--out {path} is a folder", "give the name of a file")
    folder = path.parent
    if not folder.is_dir():
        raise VipError(f"--out {path}: the folder {folder} does not exist", f"make it first: mkdir -p {folder}")
    try:
        # Rights say too little: a full disk, a read-only mount and /proc are found by trying only.
        with path.open("ab") if path.exists() else tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise VipError(
            f"--out {path} cannot be written: {error.strerror or error}", "choose a place where you may write"
        ) from error


def write_png(path: Path, image: Image.Image, lineage: Mapping[str, Any]) -> None:
    """Write a PNG whose text chunk ``vip`` says what made it.

    Args:
        path: where to.
        image: what to write.
        lineage: what JSON can hold: checkpoint, prompts, seed, sampler, hashes of picture and mask.

    Raises:
        VipError: where the file cannot be written.
    """
    info = PngInfo()
    info.add_text("Software", "vip-outpaint")
    info.add_itxt(CHUNK, canonical_json(dict(lineage)).decode())
    try:
        image.save(path, "PNG", pnginfo=info)
    except OSError as error:
        raise VipError(f"--out {path} cannot be written: {error.strerror or error}", "choose another place") from error


def read_lineage(path: Path) -> dict[str, Any]:
    """What a PNG of ours says made it.

    Raises:
        VipError: where it says nothing, or cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.load()
            text = image.info.get(CHUNK)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VipError(
            f"{path} cannot be read as a picture: {error}", "give a PNG that `vip outpaint` wrote, unchanged"
        ) from error
    try:
        lineage = json.loads(text or "")
    except (ValueError, RecursionError):
        lineage = None
    if not isinstance(lineage, dict):
        raise VipError(f"{path} carries no lineage", "give a PNG that `vip outpaint` wrote, unchanged")
    return lineage


def thumbnail(image: Image.Image, longest: int = 640) -> Image.Image:
    """The picture at most ``longest`` pixels wide and high."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def contact_sheet(images: Sequence[Image.Image]) -> Image.Image:
    """Thumbnails of several results, all of one size, side by side, as near to a square as they go."""
    width, height = images[0].size
    columns = max(1, round((len(images) * height / width) ** 0.5))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), (245, 244, 242))
    sheet.info = dict(images[0].info)  # their colour profile
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        sheet.paste(image, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return sheet
