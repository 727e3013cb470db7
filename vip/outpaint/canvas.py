"""Canvas: the picture at its place, and what is to be generated around it."""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from schemas.errors import VipError
from vip.regions.view import flatten

MAX_PIXELS = 64_000_000
"""Of a canvas; beyond that one result takes gigabytes."""

MAX_SIDE = 20_000
"""Of a canvas, in pixels."""

_SIDE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(%|px)?")
_NAMES = ("left", "top", "right", "bottom")


class Canvas(NamedTuple):
    """A picture with room around it, or within.

    Attributes:
        pixels: uint8 (height, width, 3), 0 where unknown.
        mask: uint8 (height, width), 1 = generate.
        profile: ICC profile of the picture's colours; None is sRGB, as far as anybody said.
    """

    pixels: np.ndarray
    mask: np.ndarray
    profile: bytes | None = None


def open_picture(path: Path) -> Image.Image:
    """A picture file as upright RGB; transparent pixels are laid over white.

    Raises:
        VipError: where it is missing, no picture, damaged or absurdly large.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            return as_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise VipError(f"{path} does not exist", "give the path of a picture") from None
    except IsADirectoryError:
        raise VipError(f"{path} is a folder", "give the path of one picture") from None
    except Image.DecompressionBombError as error:
        raise VipError(f"{path} is too large: {error}", "scale it down first") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise VipError(f"{path} cannot be read as a picture: {error}", "convert it to PNG or JPEG again") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB pixels of any image, transparency over white.

    A colour profile stays in ``info`` where it is one of RGB: without it the same numbers are other colours.
    """
    flat, profile = flatten(image), image.info.get("icc_profile") or b""
    flat.info = {"icc_profile": profile} if profile[16:20] == b"RGB " else {}
    return flat


def make_canvas(
    picture: Image.Image, expand: str | tuple[int, int, int, int] | None, mask: Path | str | None
) -> Canvas:
    """The canvas that an expansion or a mask asks for.

    Raises:
        VipError: where neither or both are given, or either cannot work.
    """
    if (expand is None) == (mask is None):
        raise VipError("give either an expansion or a mask", "such as --expand 64,64,64,64 or --mask mask.png")
    if mask is not None:
        return masked(picture, Path(mask))
    text = expand if isinstance(expand, str) else ",".join(str(side) for side in expand or ())
    return expanded(picture, *parse_expansion(text, picture.width, picture.height))


def parse_expansion(text: str, width: int, height: int) -> tuple[int, int, int, int]:
    """Read ``L,T,R,B``: pixels, or per cent of the picture's own width (left, right) and height (top, bottom).

    Raises:
        VipError: for anything else, for a negative side, and for four zeros.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4:
        raise VipError(
            f"--expand '{text}' has {len(parts)} values", "give four: left,top,right,bottom, such as 64,0,64,0"
        )
    sides = []
    for name, part, whole in zip(_NAMES, parts, (width, height, width, height), strict=True):
        if part.startswith("-"):
            raise VipError(f"--expand {name} is {part}", "a side cannot be negative; crop the picture first instead")
        found = _SIDE.fullmatch(part)
        if not found or (found[2] != "%" and "." in found[1]):
            raise VipError(f"--expand {name} is '{part[:40]}'", "give whole pixels such as 64, or per cent such as 25%")
        sides.append(round(float(found[1]) * whole / 100) if found[2] == "%" else int(found[1]))
    if not any(sides):
        raise VipError("--expand is 0 on every side, so nothing would be generated", "give one side some pixels")
    return (sides[0], sides[1], sides[2], sides[3])


def expanded(picture: Image.Image, left: int, top: int, right: int, bottom: int) -> Canvas:
    """A canvas that is larger than the picture by so many pixels a side.

    Raises:
        VipError: where it would be absurdly large.
    """
    width, height = picture.width + left + right, picture.height + top + bottom
    _check_size(width, height)
    pixels = np.zeros((height, width, 3), np.uint8)
    mask = np.ones((height, width), np.uint8)
    place = (slice(top, top + picture.height), slice(left, left + picture.width))
    pixels[place], mask[place] = np.asarray(picture), 0
    return Canvas(pixels, mask, picture.info.get("icc_profile"))


def masked(picture: Image.Image, path: Path) -> Canvas:
    """The picture with what a mask file paints white to be generated.

    Raises:
        VipError: where the mask has another size, generates nothing or keeps nothing.
    """
    mask = (np.asarray(open_picture(path).convert("L")) >= 128).astype(np.uint8)
    if mask.shape != (picture.height, picture.width):
        raise VipError(
            f"mask {path} is {mask.shape[1]}x{mask.shape[0]}, the picture {picture.width}x{picture.height}",
            "give a mask of the picture's size",
        )
    if not mask.any():
        raise VipError(
            f"mask {path} is black everywhere, so nothing would be generated", "paint what to generate white"
        )
    if mask.all():
        raise VipError(f"mask {path} is white everywhere, so nothing is kept", "leave what to keep black")
    _check_size(picture.width, picture.height)
    pixels = np.where(mask[..., None] == 1, np.uint8(0), np.asarray(picture))
    return Canvas(pixels, mask, picture.info.get("icc_profile"))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise VipError(
            f"a canvas of {width}x{height} is too large (64 million pixels, {MAX_SIDE:,} a side at most)",
            "expand less, or scale the picture down first",
        )
