"""What an image's bytes are, or why they are none."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.region import View
from schemas.sharding import PILLOW_PIXEL_LIMIT, RejectReason
from vip.regions.view import render_view
from vip.sharding.inspect import HEAD, ImageFacts, Reject, inspect_image, looks_like_image

LIMIT = PILLOW_PIXEL_LIMIT


def png_that_claims(width, height):
    """A few hundred bytes whose header announces an image of any size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("form", "mode", "extension"),
    [
        ("JPEG", "RGB", "jpg"),
        ("JPEG", "L", "jpg"),
        ("JPEG", "CMYK", "jpg"),
        ("PNG", "RGB", "png"),
        ("PNG", "RGBA", "png"),
        ("PNG", "P", "png"),
        ("PNG", "1", "png"),
        ("WEBP", "RGB", "webp"),
        ("GIF", "P", "gif"),
        ("BMP", "RGB", "bmp"),
        ("TIFF", "RGB", "tif"),
        ("PPM", "RGB", "ppm"),
        ("AVIF", "RGB", "avif"),
    ],
)
def test_good_images_are_known_by_their_content(encoded, form, mode, extension):
    data = encoded(1, (30, 20), mode, form)
    facts = inspect_image(data, LIMIT)
    assert facts == ImageFacts(form, 30, 20, 1, mode)
    assert facts.extension == extension
    assert looks_like_image(data[:HEAD])


def test_sixteen_bits_and_palette_with_transparency(encoded):
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(file, "PNG")
    assert inspect_image(file.getvalue(), LIMIT).mode == "I;16"
    assert inspect_image(encoded(2, mode="P", transparency=0), LIMIT).mode == "P"


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (10, 6), (shade, 0, 0)) for shade in (10, 90, 200)]
    for form in ("GIF", "PNG", "WEBP"):
        file = io.BytesIO()
        frames[0].save(file, form, save_all=True, append_images=frames[1:])
        facts = inspect_image(file.getvalue(), LIMIT)
        assert (facts.format, facts.width, facts.height) == (form, 10, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_and_size_is_as_stored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new("RGB", (40, 10)).save(file, "JPEG", exif=exif)
    facts = inspect_image(file.getvalue(), LIMIT)
    assert (facts.orientation, facts.width, facts.height) == (orientation, 40, 10)


def test_nonsense_orientation_is_none():
    exif = Image.Exif()
    exif[0x0112] = 77
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    assert inspect_image(file.getvalue(), LIMIT).orientation == 1


def test_a_bomb_is_never_decoded():
    for width, height in ((60_000, 60_000), (15_000, 10_000), (2**31 - 1, 2**31 - 1)):
        assert inspect_image(png_that_claims(width, height), 10_000_000).reason is RejectReason.TOO_MANY_PIXELS
    assert inspect_image(png_that_claims(101, 100), 10_000).reason is RejectReason.TOO_MANY_PIXELS


def test_a_very_wide_image_is_fine():
    file = io.BytesIO()
    Image.new("L", (65_500, 8)).save(file, "JPEG")
    assert inspect_image(file.getvalue(), LIMIT).width == 65_500


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_wherever_a_jpeg_is_cut_the_scaled_decode_sees_what_the_full_one_sees(encoded, options):
    data = encoded(3, (70, 50), form="JPEG", **options)
    for end in range(len(data)):
        cut = data[:end]
        try:
            with Image.open(io.BytesIO(cut)) as image:
                image.load()
            whole = True
        except (OSError, SyntaxError):
            whole = False
        assert isinstance(inspect_image(cut, LIMIT), ImageFacts) == whole, end
    assert inspect_image(data[: len(data) // 2], LIMIT).reason is RejectReason.TRUNCATED


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("GIF", "P"), ("WEBP", "RGB"), ("BMP", "RGB")]
)
def test_half_an_image_is_rejected(encoded, form, mode):
    data = encoded(4, (60, 60), mode, form)
    found = inspect_image(data[: len(data) // 2], LIMIT)
    assert isinstance(found, Reject)
    assert found.reason in (RejectReason.TRUNCATED, RejectReason.UNDECODABLE)


def test_what_is_no_image_says_so():
    assert inspect_image(b"", LIMIT).reason is RejectReason.EMPTY
    for data in (b"hello", b"<svg/>", b"%PDF-1.7", b"PK\x03\x04", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\0" * 100):
        assert inspect_image(data, LIMIT).reason is RejectReason.NOT_AN_IMAGE
        assert not looks_like_image(data[:HEAD])
    assert inspect_image(b"GIF89a" + bytes(100), LIMIT).reason is RejectReason.UNDECODABLE


@settings(max_examples=300, deadline=None)
@given(
    form=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.floats(0.1, 1),
)
def test_damaged_bytes_give_an_answer_and_what_is_accepted_can_be_rendered(form, changes, cut):
    noise = np.random.default_rng(5).integers(0, 256, (9, 13, 3), np.uint8)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(file, form, **({"exif": exif} if form in ("JPEG", "PNG", "WEBP") else {}))
    data = bytearray(file.getvalue())
    for place, value in changes:
        data[int(place * len(data))] = value
    data = bytes(data[: max(1, int(cut * len(data)))])
    found = inspect_image(data, 1_000_000)
    if isinstance(found, ImageFacts):
        assert render_view(data, View(width=8, height=8)).shape == (8, 8, 3)
    else:
        assert found.reason in RejectReason and found == inspect_image(data, 1_000_000)


def test_nothing_reaches_the_terminal(encoded, capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tiff = bytearray(encoded(6, (40, 40), form="TIFF"))
        for place in range(0, len(tiff), 3):
            tiff[place] ^= 0x55
            inspect_image(bytes(tiff), LIMIT)
        exif = encoded(7, form="JPEG", exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\xff")
        inspect_image(exif, LIMIT)
        inspect_image(png_that_claims(10_000, 10_000), LIMIT)  # between Pillow's warning and its error
    assert caught == []
    assert capfd.readouterr() == ("", "")
