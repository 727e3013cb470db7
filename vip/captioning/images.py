"""The pixels that a request may see.

joint: the whole view. centre and imagine: the kept part, the surrounding blanked. surrounding: the kept part blanked.
"""

import base64
import io
from typing import Literal

from schemas.canonical import fingerprint
from schemas.region import Region, View
from schemas.spec import Part, Preprocessing
from vip.captioning.rows import Sample

RENDERER = 1
"""Raised when rendering changes the pixels that are sent for the same image, view, region and preprocessing."""

_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
# Larger originals cost the server more tokens than the view is worth; they are resized instead.
_LARGEST_ORIGINAL = 4


def blanked(part: Part) -> Literal["nothing", "surrounding", "kept"]:
    """What a part must not see."""
    if part == "joint":
        return "nothing"
    return "kept" if part == "surrounding" else "surrounding"


def sends_original(sample: Sample, view: View, part: Part, preprocessing: Preprocessing) -> bool:
    """Whether the original bytes show what the view shows.

    They do where the part sees the whole view, nothing is cropped or turned, and the image is a JPEG, PNG or WebP in
    RGB or grey that is at least as large as the view and has at most four times its pixels.
    """
    return (
        preprocessing.original_bytes
        and part == "joint"
        and sample.format in _MIME
        and sample.mode in ("RGB", "L")
        and sample.orientation == 1
        and sample.width * view.height == sample.height * view.width
        and view.width <= sample.width
        and sample.width * sample.height <= _LARGEST_ORIGINAL * view.width * view.height
    )


def image_name(sample: Sample, view: View, region: Region, part: Part, preprocessing: Preprocessing) -> str:
    """The digest that stands for the sent image in a request's identity, known without opening it.

    The SHA-256 of the original bytes; where pixels are rendered, with the digest of how.
    """
    if sends_original(sample, view, part, preprocessing):
        return sample.image_sha256
    return f"{sample.image_sha256}+{rendering_digest(view, region, part, preprocessing)}"


def rendering_digest(view: View, region: Region, part: Part, preprocessing: Preprocessing) -> str:
    """SHA-256 over everything that decides rendered pixels besides the image itself."""
    hidden = blanked(part)
    how = {
        "renderer": RENDERER,
        "view": view.id,
        "blanked": hidden,
        "region": region.id if hidden != "nothing" else None,
        "blank": preprocessing.blank if hidden != "nothing" else None,
        "format": preprocessing.format,
        "quality": preprocessing.quality if preprocessing.format == "jpeg" else None,
    }
    return fingerprint(how)


def data_url(data: bytes, mime: str) -> bytes:
    """``data:<mime>;base64,...``."""
    return b"data:" + mime.encode() + b";base64," + base64.b64encode(data)


def original_url(data: bytes, sample: Sample) -> bytes:
    """The original bytes as a data URL."""
    return data_url(data, _MIME[sample.format])


def rendered_url(data: bytes, view: View, region: Region, part: Part, preprocessing: Preprocessing) -> bytes:
    """The pixels of a part as a data URL; no metadata of the original survives.

    Raises:
        OSError: where the bytes cannot be decoded.
    """
    import numpy as np
    from PIL import Image

    from vip.regions.mask import render_mask
    from vip.regions.view import render_view

    pixels = render_view(data, view)
    hidden = blanked(part)
    if hidden != "nothing":
        mask = render_mask(region, view)
        pixels = np.where(
            mask[..., None] == (1 if hidden == "surrounding" else 0), np.uint8(preprocessing.blank), pixels
        )
    buffer = io.BytesIO()
    if preprocessing.format == "png":
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        return data_url(buffer.getvalue(), "image/png")
    Image.fromarray(pixels).save(buffer, "JPEG", quality=preprocessing.quality)
    return data_url(buffer.getvalue(), "image/jpeg")
