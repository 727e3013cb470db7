"""Inspect an image's bytes: what it is, or the typed reason why it is none."""

import functools
import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from schemas.errors import VipError
from schemas.sharding import RejectReason

EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",  # several JPEGs in one file, as phones write them; the first is the picture
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "PPM": "ppm",
    "AVIF": "avif",
}
"""The formats that are read, and how a sample of each is named. EPS, which would start Ghostscript, is not here."""

HEAD = 32
"""Bytes that :func:`looks_like_image` needs."""

MAX_SCAN_PIXELS = 4_000_000_000
"""Scans times pixels of a JPEG: a scan of 100 bytes costs a pass over all pixels (0.16 s for 64 megapixels), so that a
file of a few megabytes could keep a core busy for hours. Honest JPEGs have 1 to 20 scans."""

_SCAN = b"\xff\xda"  # within the coded pixels an FF is always followed by 00 or a restart mark
_READERS = [name for name in EXTENSIONS if name != "MPO"]
_ORIENTATION = 0x0112
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)

# Pillow's readers raise all of these on bytes that are not what they claim to be.
_BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of a good image.

    Attributes:
        format: Pillow's name, such as JPEG.
        width, height: pixels as stored, before orientation.
        orientation: EXIF 1..8; 1 where the file says nothing or nonsense.
        mode: Pillow's mode, such as RGB, L, RGBA, P, I;16, CMYK.
    """

    format: str
    width: int
    height: int
    orientation: int
    mode: str

    def as_row(self) -> dict[str, str | int]:
        """The columns of a samples table that it fills."""
        return {
            "format": self.format,
            "width": self.width,
            "height": self.height,
            "orientation": self.orientation,
            "mode": self.mode,
        }

    @property
    def extension(self) -> str:
        """What a sample of this format is called; the content decides, not the name it came under."""
        return EXTENSIONS[self.format]


@dataclass(frozen=True, slots=True)
class Reject:
    """Why bytes are no usable image. Equal bytes give an equal detail: it holds no path and no address."""

    reason: RejectReason
    detail: str


def looks_like_image(head: bytes) -> bool:
    """Whether the first :data:`HEAD` bytes begin one of the formats that are read."""
    # `accept` answers with False, True, or a message for a format whose library is missing.
    return any(accept(head) is True for accept in _accepts())


@functools.cache
def _accepts() -> list[Callable[[bytes], object]]:
    Image.init()
    return [accept for _, accept in (Image.OPEN[name] for name in _READERS) if accept is not None]


def inspect_image(data: bytes, max_pixels: int) -> ImageFacts | Reject:
    """Decode ``data`` once and say what it is.

    The size is read from the header first, so that a decompression bomb is never decoded. JPEGs are decoded at 1/8
    scale: every coefficient is still read, so that a cut shows, at half the cost. Of an animation the first frame
    counts.

    Args:
        data: the bytes of the file.
        max_pixels: images with more pixels are rejected.

    Raises:
        VipError: where memory runs out, which says nothing about the image.
    """
    if not data:
        return Reject(RejectReason.EMPTY, "zero bytes")
    _quiet()
    try:
        with Image.open(io.BytesIO(data), formats=_READERS) as image:
            width, height, mode, name = image.width, image.height, image.mode, str(image.format)
            if width * height > max_pixels:
                return Reject(RejectReason.TOO_MANY_PIXELS, f"{width}x{height} pixels, the limit is {max_pixels}")
            if name in ("JPEG", "MPO"):
                scans = data.count(_SCAN)
                if scans > 30 and scans * width * height > MAX_SCAN_PIXELS:
                    return Reject(RejectReason.TOO_MANY_SCANS, f"{scans} scans of {width}x{height} pixels")
                image.draft(None, (max(1, width // 8), max(1, height // 8)))
            orientation = image.getexif().get(_ORIENTATION, 1)
            image.load()
    except Image.DecompressionBombError:
        return Reject(RejectReason.TOO_MANY_PIXELS, f"more pixels than Pillow opens, the limit is {max_pixels}")
    except UnidentifiedImageError:
        known = looks_like_image(data[:HEAD])
        reason = RejectReason.UNDECODABLE if known else RejectReason.NOT_AN_IMAGE
        return Reject(
            reason,
            "its header is damaged, or of a kind that Pillow does not read" if known else "no format that is read here",
        )
    except MemoryError as error:
        raise VipError(
            "memory ran out while an image was decoded", "lower max_pixels or the number of workers"
        ) from error
    except _BROKEN as error:
        return _broken(error)
    valid = isinstance(orientation, int) and 1 <= orientation <= 8
    return ImageFacts(name, width, height, orientation if valid else 1, mode)


def _broken(error: Exception) -> Reject:
    words = re.sub(r"0x[0-9a-f]+", "0x", " ".join(str(error).split()))[:200] or type(error).__name__
    cut = isinstance(error, EOFError) or "truncated" in words.lower() or "not enough image data" in words.lower()
    return Reject(RejectReason.TRUNCATED if cut else RejectReason.UNDECODABLE, words)


def _quiet() -> None:
    """Keep Pillow's warnings about odd files off the terminal: what matters is in the rejects table.

    Looked up each time, because others (pytest among them) put the list of filters back as they found it.
    """
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\b")
