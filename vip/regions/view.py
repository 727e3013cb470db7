"""Render original bytes as the pixels of a view."""

import io

import numpy as np
from PIL import Image, ImageOps

from schemas.region import View


def render_view(data: bytes, view: View) -> np.ndarray:
    """Decode ``data``, apply its EXIF orientation, crop to the view's aspect ratio and resize.

    Transparent pixels are laid over white. JPEGs are decoded at the smallest scale that suffices.

    Returns:
        uint8 array of shape (height, width, 3), RGB.

    Raises:
        OSError: where the bytes are no image that Pillow reads.
    """
    with Image.open(io.BytesIO(data)) as image:
        # JPEG draft scaling: libjpeg decodes straight to 1/2, 1/4 or 1/8 when that is still large enough.
        longest = max(view.width, view.height)
        image.draft("RGB", (longest, longest))
        upright = ImageOps.exif_transpose(image)
        return np.asarray(fit(flatten(upright), view))


def flatten(image: Image.Image) -> Image.Image:
    """RGB pixels of any image, transparency over white.

    Deep grey is scaled to 8 bits from the range that its largest value lies in: 65,535, 255, or 1 for floats. What is
    no number is black.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, np.float64))
        largest = values.max(initial=0.0)
        full = 65535.0 if largest > 255 else 1.0 if largest <= 1 and image.mode == "F" else 255.0
        scale = 255.0 / full
        return Image.fromarray(np.clip(values * scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, view: View) -> Image.Image:
    """Crop ``image`` to the aspect ratio of ``view`` and resize it to the view's size."""
    if image.size == (view.width, view.height):
        return image
    if image.width * view.height > image.height * view.width:
        width, height = image.height * view.width / view.height, float(image.height)
    else:
        width, height = float(image.width), image.width * view.height / view.width
    place = {"start": 0.0, "centre": 0.5, "end": 1.0}[view.crop]
    left, top = (image.width - width) * place, (image.height - height) * place
    return image.resize(
        (view.width, view.height),
        Image.Resampling.BICUBIC,
        box=(left, top, left + width, top + height),
        reducing_gap=3.0,
    )
