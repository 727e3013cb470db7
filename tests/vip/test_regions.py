"""Views and regions: one convention, 1 = generate."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas.bank import Bank
from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.region import BrushRegion, CentreRegion, FileRegion, SidesRegion, View
from schemas.retrain_config import RetrainConfig
from vip.regions.mask import render_mask
from vip.regions.view import flatten, render_view

SQUARE = View(width=64, height=64)


@given(keep=st.floats(0.1, 0.9), width=st.integers(16, 200), height=st.integers(16, 200))
def test_the_kept_rectangle_is_centred(keep, width, height):
    mask = render_mask(CentreRegion(keep=keep), View(width=width, height=height))
    assert (mask == mask[::-1]).all() and (mask == mask[:, ::-1]).all()
    assert mask[0, 0] == 1 and mask[height // 2, width // 2] == 0


def test_the_released_setting_keeps_128_of_256():
    mask = render_mask(CentreRegion(keep=0.5), View(width=256, height=256))
    assert (mask == 0).sum() == 128 * 128 and mask[64, 64] == 0 and mask[63, 64] == 1


def test_sides_generate_the_named_band():
    mask = render_mask(SidesRegion(left=0.25), SQUARE)
    assert mask[:, :16].all() and not mask[:, 16:].any()


@given(seed=st.integers(0, 2**32), cover=st.floats(0.1, 0.8))
def test_a_brush_is_repeatable_and_covers_about_what_was_asked(seed, cover):
    region = BrushRegion(seed=seed, cover=cover)
    mask = render_mask(region, SQUARE)
    assert (mask == render_mask(region, SQUARE)).all()
    assert cover * 0.9 <= mask.mean() <= min(1.0, cover + 0.35)


def test_a_mask_without_both_parts_is_refused():
    with pytest.raises(VipError, match=r"(keeps|generates) no pixel"):
        render_mask(CentreRegion(keep=0.999), View(width=8, height=8))
    with pytest.raises(ValueError, match="nothing would be generated"):
        SidesRegion()


def test_the_bank_gives_each_image_its_own_strokes():
    bank = Bank(regions=(CentreRegion(), BrushRegion()))
    one, other = bank.pairs("a" * 64), bank.pairs("b" * 64)
    assert one == bank.pairs("a" * 64)
    assert one[0] == other[0] and one[1] != other[1]


def test_the_bank_refuses_two_regions_of_one_name():
    with pytest.raises(ValueError, match=r"two regions are both called centre-0\.5156; make them differ by"):
        Bank(regions=(CentreRegion(keep=0.515625), CentreRegion(keep=0.51563)))


def test_a_mask_file_is_the_one_that_was_named_or_refused(tmp_path):
    file = tmp_path / "mask.png"
    Image.fromarray(np.repeat([[0], [255]], 32, axis=0).repeat(64, axis=1).astype(np.uint8)).save(file)
    region = FileRegion(path=str(file), sha256=sha256_hex(file.read_bytes()))
    assert render_mask(region, SQUARE)[32:].all() and not render_mask(region, SQUARE)[:32].any()
    Image.new("L", (64, 64), 255).save(file)
    with pytest.raises(VipError, match=r"mask .*mask.png is not the one that the bank names"):
        render_mask(region, SQUARE)
    file.unlink()
    with pytest.raises(VipError, match=r"mask .*mask.png cannot be read: No such file"):
        render_mask(region, SQUARE)


@pytest.mark.parametrize(
    ("captioned", "preset", "fits"),
    [
        (CentreRegion(keep=0.5), "nano-centre", True),
        (CentreRegion(keep=0.7), "nano-centre", False),
        (CentreRegion(keep=0.50001), "nano-centre", False),
        (BrushRegion(cover=0.5, seed=7), "nano-brush", True),
        (BrushRegion(cover=0.4), "nano-brush", False),
    ],
)
def test_an_exam_is_of_a_region_that_is_captioned(captioned, preset, fits):
    run = {"source": "pictures", "bank": Bank(regions=(captioned,)), "evaluate": {"preset": preset}}
    if fits:
        assert RetrainConfig.model_validate(run).evaluate.preset == preset
    else:
        with pytest.raises(ValueError, match="is not in the bank; add it"):
            RetrainConfig.model_validate(run)


def _encoded(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    image = Image.fromarray(np.full((40, 60), 30000, np.uint16)) if mode == "I;16" else Image.new(mode, (60, 40))
    pixels = render_view(_encoded(image, format="TIFF" if mode == "CMYK" else "PNG"), SQUARE)
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("kind", "full"),
    [(np.uint16, 65535), (np.int32, 65535), (np.int32, 255), (np.float32, 65535), (np.float32, 255), (np.float32, 1)],
)
def test_deep_grey_is_as_bright_as_it_was(kind, full):
    bright = np.array([[0.0, 0.5, 1.0]])
    assert np.asarray(flatten(Image.fromarray((bright * full).astype(kind))))[0, :, 0].tolist() == [0, 127, 255]


@pytest.mark.filterwarnings("error")
def test_what_is_no_number_in_a_picture_is_black():
    values = np.array([[np.nan, 1.0]], np.float32)
    assert np.asarray(flatten(Image.fromarray(values)))[0, :, 0].tolist() == [0, 255]


def test_wide_images_are_cropped_not_squashed():
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = 255
    data = _encoded(Image.fromarray(wide), format="PNG")
    assert render_view(data, SQUARE)[:, 1:-1].min() == 255
    assert render_view(data, View(width=64, height=64, crop="start"))[:, :-1].max() == 0


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = render_view(_encoded(image, format="JPEG", exif=exif), View(width=40, height=80))
    assert upright[10, 20, 2] > 200 and upright[70, 20, 0] > 200


def test_transparency_lies_over_white():
    pixels = render_view(_encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), format="PNG"), SQUARE)
    assert pixels.min() == 255
