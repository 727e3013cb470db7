"""Outpainting one picture: own pixels untouched, any size, and bad calls that say what is wrong."""

import itertools
import json
import os
import zlib

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
)
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from schemas.errors import VipError
from schemas.outpaint_settings import OutpaintSettings
from tests.vip.evaluation.world import make_pipeline
from vip.diffusion.paste import feather_weights
from vip.diffusion.text import cut_text
from vip.nano.dataset import DEMO_SEED
from vip.nano.scene import make_scene
from vip.nano.world import draw
from vip.outpaint.borders import Lines, edges_of, elsewhere, strongest_step
from vip.outpaint.canvas import expanded, masked, open_picture, parse_expansion
from vip.outpaint.figures import base_pipeline
from vip.outpaint.files import check_target, contact_sheet, read_lineage, thumbnail, write_png
from vip.outpaint.load import load_outpainter
from vip.outpaint.outpaint import outpaint, outpaint_canvas, plan_sizes
from vip.outpaint.painter import Painter
from vip.outpaint.tiles import plan_tiles, window


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline()


def picture(width=64, height=64, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def quick(**changes):
    return OutpaintSettings(**{"steps": 2, "guidance": 2.0, **changes})


@pytest.mark.parametrize(
    ("size", "expand"),
    [
        ((64, 64), (0, 0, 16, 0)),
        ((50, 34), (7, 3, 5, 11)),  # nothing divisible by anything
        ((300, 120), (40, 30, 40, 30)),  # several tiles and passes
        ((1, 1), (3, 3, 3, 3)),
        ((200, 20), (8, 8, 8, 8)),  # far from square
    ],
)
def test_own_pixels_stay_bit_for_bit_outside_the_feather(pipeline, size, expand):
    own = picture(*size)
    (made,) = outpaint(own, pipeline, expand, center="a ball", surrounding="a field", settings=quick(feather=2))
    left, top, right, bottom = expand
    assert made.image.size == (size[0] + left + right, size[1] + top + bottom)
    canvas = expanded(own, *expand)
    weights = feather_weights(torch.from_numpy(canvas.mask.astype(np.float32))[None, None], 2)[0, 0].numpy()
    result = np.asarray(made.image)
    np.testing.assert_array_equal(result[weights == 0], canvas.pixels[weights == 0])
    assert result[canvas.mask == 1].std() > 0


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(pipeline):
    own = picture()
    first = outpaint(own, pipeline, (16, 0, 16, 0), settings=quick(count=2, seed=5))
    again = outpaint(own, pipeline, (16, 0, 16, 0), settings=quick(seed=6))
    assert [made.seed for made in first] == [5, 6]
    assert first[1].image.tobytes() == again[0].image.tobytes() != first[0].image.tobytes()


@pytest.mark.parametrize("scheduler", [DDPMScheduler, EulerAncestralDiscreteScheduler])
def test_the_seed_repeats_a_picture_where_the_scheduler_draws_noise_at_each_step(pipeline, monkeypatch, scheduler):
    monkeypatch.setattr(pipeline, "scheduler", scheduler.from_config(pipeline.scheduler.config))
    first, again = (
        outpaint(picture(), pipeline, (16, 0, 16, 0), settings=quick(seed=5))[0].image.tobytes() for _ in range(2)
    )
    assert first == again


@pytest.mark.parametrize("strength", [0.2, 0.3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize(
    "scheduler",
    [
        DDPMScheduler,
        DPMSolverMultistepScheduler,
        EulerDiscreteScheduler,
        EulerAncestralDiscreteScheduler,
        HeunDiscreteScheduler,
        KDPM2DiscreteScheduler,
        KDPM2AncestralDiscreteScheduler,
    ],
)
def test_a_refinement_by_a_model_that_knows_the_picture_ends_at_the_picture(pipeline, monkeypatch, scheduler, strength):
    made = scheduler.from_config(pipeline.scheduler.config)
    monkeypatch.setattr(pipeline, "scheduler", made)
    begun, ended = [], []

    def encode(self, pixels, pieces, size):
        begun.append(torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(3)))
        return begun[-1]

    def knowing(self, latents, timestep, piece):
        levels = made.alphas_cumprod.log().numpy()
        alpha = float(np.exp(np.interp(float(timestep), np.arange(len(levels)), levels)))
        noise = (latents - alpha**0.5 * begun[-1]) / (1 - alpha) ** 0.5
        return torch.cat([noise[:, :, *tile.place] for tile in piece.tiles])

    def decode(self, latents, pixels, pieces):
        ended.append(latents)
        return pixels

    for name, does in (("_encode_canvas", encode), ("_predict", knowing), ("_decode", decode)):
        monkeypatch.setattr(Painter, name, does)
    canvas = expanded(picture(200, 64), 0, 0, 40, 40)  # some tiles have nothing to generate, other ones in either grid
    painter = Painter(pipeline, "ball", "field", 1.0)
    generator = torch.Generator().manual_seed(0)
    painter.paint(canvas.pixels, canvas.mask, 30, generator, start=canvas.pixels, strength=strength)
    torch.testing.assert_close(ended[-1], begun[-1], atol=1e-3, rtol=0)


def test_the_texts_reach_the_model(pipeline):
    own = picture()
    plain = outpaint(own, pipeline, (16, 0, 0, 0), settings=quick())[0].image.tobytes()
    around = outpaint(own, pipeline, (16, 0, 0, 0), surrounding="sea", settings=quick())[0].image.tobytes()
    within = outpaint(own, pipeline, (16, 0, 0, 0), center="sea", settings=quick())[0].image.tobytes()
    assert len({plain, around, within}) == 3


def test_only_tiles_that_see_most_of_the_known_part_are_told_what_it_shows(pipeline, monkeypatch):
    told = []
    plain = pipeline.controlled

    def listening(sample, timestep, total, center, *rest):
        told.append(center)
        return plain(sample, timestep, total, center, *rest)

    monkeypatch.setattr(pipeline, "controlled", listening)
    canvas = expanded(picture(48, 64), 0, 0, 144, 0)
    painter = Painter(pipeline, "ball", "field", 2.0)
    painter.paint(canvas.pixels, canvas.mask, 1, torch.Generator().manual_seed(1))
    nothing, *of_tiles = told[0][len(told[0]) // 2 - 1 :]
    sees = [bool(tile.left < 8) for tile in painter.tiles(canvas.mask)]
    assert [not torch.equal(text, nothing) for text in of_tiles] == sees and 0 < sum(sees) < len(sees)


def test_the_tiles_of_a_refinement_lie_elsewhere_at_every_other_step(pipeline, monkeypatch):
    steps = []
    plain = Painter._predict

    def listening(self, latents, timestep, piece):
        steps.append((int(timestep), [tile.place for tile in piece.tiles]))
        return plain(self, latents, timestep, piece)

    monkeypatch.setattr(Painter, "_predict", listening)
    canvas = expanded(picture(90, 60), 30, 20, 30, 20)
    painter = Painter(pipeline, "ball", "field", 1.0)
    painter.paint(canvas.pixels, canvas.mask, 4, torch.Generator().manual_seed(1), canvas.pixels, 1.0)
    looked = {}
    for timestep, places in steps:
        looked.setdefault(timestep, []).extend(places)
    first, second, third, fourth = looked.values()
    assert first == third != second == fourth
    for places in (first, second):
        seen = np.zeros((25, 38), bool)
        for place in places:
            seen[place] = True
        cells = np.pad(canvas.mask, ((0, 0), (0, 2)), constant_values=1).reshape(25, 4, 38, 4).max(axis=(1, 3))
        assert seen[cells == 1].all()


def test_one_tile_is_painted_as_the_pipeline_paints_it(pipeline):
    # With a posterior of no width, sampling it (the pipeline) and taking its mode (the painter) are the same.
    weights = pipeline.vae.quant_conv
    before = weights.weight.clone(), weights.bias.clone()
    with torch.no_grad():
        weights.weight[4:], weights.bias[4:] = 0.0, -30.0
    try:
        canvas = expanded(picture(48, 48), 8, 8, 8, 8)
        painted = Painter(pipeline, "ball", "field", 2.0).paint(
            canvas.pixels, canvas.mask, 3, torch.Generator().manual_seed(1)
        )
        noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(1))
        theirs, _ = pipeline(
            canvas.pixels,
            canvas.mask,
            center_prompt="ball",
            surrounding_prompt="field",
            latents=noise,
            num_inference_steps=3,
            guidance_scale=2.0,
            paste=False,
            output_type="np",
            return_dict=False,
        )
        assert np.abs(painted / 255 - theirs[0]).max() < 2 / 255
    finally:
        with torch.no_grad():
            weights.weight.copy_(before[0])
            weights.bias.copy_(before[1])


def test_tiles_are_of_the_size_that_was_trained_and_else_of_the_base(tmp_path):
    pipeline = make_pipeline()
    assert Painter(pipeline, "", "", 1.0).tile == 16
    pipeline.control.register_to_config(view=(48, 32))
    pipeline.save_pretrained(str(tmp_path))
    assert Painter(load_outpainter(tmp_path), "", "", 1.0).tile == 8  # 4 pixels a cell


def test_large_canvases_are_painted_coarse_to_fine_within_the_limit_of_tiles(pipeline):
    painter = Painter(pipeline, "", "", 1.0)
    canvas = expanded(picture(1920, 1080), 160, 160, 160, 160)
    sizes = plan_sizes(painter, canvas, quick(tiles=24))
    assert sizes[0][0] * sizes[0][1] == pytest.approx(64 * 64, rel=0.05)
    assert all(small[0] < large[0] for small, large in itertools.pairwise(sizes))
    coarse_mask = np.asarray(Image.fromarray(canvas.mask).resize(sizes[-1][::-1], Image.Resampling.BOX))
    assert 8 < len(painter.tiles(np.maximum(coarse_mask, 0))) <= 24
    assert plan_sizes(painter, canvas, quick(tiles=0)) == sizes[:1]
    small = expanded(picture(64, 64), 16, 16, 16, 16)
    assert plan_sizes(painter, small, quick())[-1] == (96, 96)  # refined at the canvas's own scale


@pytest.mark.parametrize("shifted", [False, True])
def test_tiles_cover_the_canvas_and_their_weights_have_no_step(shifted):
    for height, width in ((16, 16), (17, 40), (100, 33), (5, 90)):
        tiles = plan_tiles(height, width, 16, 4, shifted)
        total = np.zeros((height, width))
        for tile in tiles:
            assert tile.height <= 16 and tile.width <= 16
            total[tile.place] += window(tile, height, width)
        assert total.min() > 0
        for tile in tiles:
            share = window(tile, height, width) / total[tile.place]
            if tile.left > 0:
                assert share[:, 0].max() < 0.1
            if tile.top + tile.height < height:
                assert share[-1].max() < 0.1


def test_a_mask_file_says_what_to_generate(pipeline, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    own = picture()
    (made,) = outpaint(own, pipeline, mask=tmp_path / "mask.png", settings=quick(feather=0))
    np.testing.assert_array_equal(np.asarray(made.image)[mask == 0], np.asarray(own)[mask == 0])
    assert (np.asarray(made.image)[mask == 255] != np.asarray(own)[mask == 255]).any()


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_a_cell_that_is_unknown_in_any_part_is_generated(pipeline, tmp_path, monkeypatch, width):
    told = []
    plain = pipeline.controlled
    monkeypatch.setattr(pipeline, "controlled", lambda sample, *rest: told.append(sample[0, 4]) or plain(sample, *rest))
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 33 : 33 + width] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    outpaint(picture(), pipeline, mask=tmp_path / "mask.png", settings=quick(steps=1))
    touched = mask.reshape(16, 4, 16, 4).any(axis=(1, 3))
    np.testing.assert_array_equal(told[0].numpy(), touched)


def test_a_text_too_long_is_painted_and_its_lost_end_is_told(pipeline):
    (made,) = outpaint(picture(), pipeline, (8, 0, 0, 0), surrounding="tree " * 500, settings=quick())
    assert made.cut.startswith("t") or "tree" in made.cut.replace(" ", "")


def test_halves_that_fit_alone_lose_an_end_together_and_it_is_told(pipeline):
    half = "b " * (pipeline.tokenizer.model_max_length // 2)
    assert not cut_text(pipeline.tokenizer, half)
    (made,) = outpaint(picture(), pipeline, (8, 0, 0, 0), center=half, surrounding=half + "z", settings=quick())
    assert made.cut.endswith("z")


def test_odd_files_become_upright_rgb(tmp_path):
    clear = Image.new("RGBA", (20, 10), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert open_picture(tmp_path / "clear.png").getpixel((3, 3)) == (255, 255, 255)
    Image.new("L", (20, 10), 90).save(tmp_path / "grey.jpg")
    assert open_picture(tmp_path / "grey.jpg").mode == "RGB"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (10, 20)


@pytest.mark.parametrize(
    ("name", "mode", "kept"),
    [("a.jpg", "RGB", True), ("a.png", "RGBA", True), ("a.png", "L", False), ("a.jpg", "CMYK", False)],
)
def test_the_result_has_the_colour_profile_of_the_picture(pipeline, tmp_path, name, mode, kept):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = {"L": b"GRAY", "CMYK": b"CMYK"}.get(mode, b"RGB ")
    picture().convert(mode).save(tmp_path / name, icc_profile=bytes(profile))
    with Image.open(tmp_path / name) as opened:
        for place, given in enumerate((tmp_path / name, opened)):
            (made,) = outpaint(given, pipeline, (16, 0, 0, 0), settings=quick(steps=1))
            write_png(tmp_path / f"{place}.png", made.image, {})
            write_png(tmp_path / f"sheet-{place}.png", contact_sheet([thumbnail(made.image, 32)] * 2), {})
    for written in ("0.png", "1.png", "sheet-0.png", "sheet-1.png"):
        with Image.open(tmp_path / written) as result:
            assert result.info.get("icc_profile") == (bytes(profile) if kept else None)


def test_expansions_in_pixels_and_per_cent():
    assert parse_expansion("1, 2,3 ,4", 100, 50) == (1, 2, 3, 4)
    assert parse_expansion("25%,10%,0,8px", 100, 50) == (25, 5, 0, 8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2,3", "has 3 values"),
        ("-5,0,0,0", "left is -5; a side cannot be negative"),
        ("0,0,0,0", "nothing would be generated"),
        ("a,0,0,0", "left is 'a'"),
        ("0,1.5,0,0", "top is '1.5'"),
    ],
)
def test_bad_expansions_say_what_is_wrong(text, says):
    with pytest.raises(VipError, match=says):
        parse_expansion(text, 100, 100)


def test_bad_files_say_what_is_wrong(pipeline, tmp_path):
    def save(name, array):
        Image.fromarray(array).save(tmp_path / name)
        return tmp_path / name

    own = picture(20, 20)
    with pytest.raises(VipError, match=r"is 10x20, the picture 20x20; give a mask of the picture's size"):
        masked(own, save("size.png", np.full((20, 10), 255, np.uint8)))
    with pytest.raises(VipError, match="black everywhere"):
        masked(own, save("black.png", np.zeros((20, 20), np.uint8)))
    with pytest.raises(VipError, match="white everywhere"):
        masked(own, save("white.png", np.full((20, 20), 255, np.uint8)))
    with pytest.raises(VipError, match="does not exist"):
        open_picture(tmp_path / "nowhere.png")
    with pytest.raises(VipError, match="is a folder"):
        open_picture(tmp_path)
    whole = save("whole.png", np.asarray(picture(64, 64))).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VipError, match="cannot be read as a picture"):
        open_picture(tmp_path / "cut.png")
    with pytest.raises(VipError, match="either an expansion or a mask"):
        outpaint(own, pipeline)
    with pytest.raises(VipError, match="100020x20 is too large"):
        outpaint(own, pipeline, (100_000, 0, 0, 0))


def test_targets_are_checked_before_the_work(tmp_path):
    check_target(tmp_path / "fine.png")
    with pytest.raises(VipError, match=r"is no \.png"):
        check_target(tmp_path / "picture.jpg")
    with pytest.raises(VipError, match="does not exist; make it first"):
        check_target(tmp_path / "no" / "where.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(VipError, match="is a folder"):
        check_target(tmp_path / "folder.png")
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(VipError, match="cannot be written"):
            check_target(tmp_path / "fine.png")
        tmp_path.chmod(0o700)


def test_a_png_says_what_made_it(tmp_path):
    lineage = {"checkpoint": "ab" * 32, "surrounding": "Wiese, Blüten", "seed": 3}
    write_png(tmp_path / "made.png", picture(), lineage)
    assert read_lineage(tmp_path / "made.png") == lineage
    with Image.open(tmp_path / "made.png") as image:
        assert json.loads(image.info["vip"]) == lineage
    picture().save(tmp_path / "plain.png")
    texts = {"foreign": "by hand", "list": "[1]", "deep": "[" * 200_000, "large": "a" * 70_000_000}
    for name, text in texts.items():
        info = PngInfo()
        info.add_itxt("vip", text, zip=True)
        picture().save(tmp_path / f"{name}.png", pnginfo=info)
    for name in ("plain", "foreign", "list", "deep"):
        with pytest.raises(VipError, match="carries no lineage"):
            read_lineage(tmp_path / f"{name}.png")
    png = bytearray((tmp_path / "plain.png").read_bytes())
    png[16:24] = (40_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(png)
    for name in ("large", "huge"):
        with pytest.raises(VipError, match="cannot be read as a picture"):
            read_lineage(tmp_path / f"{name}.png")


def test_a_contact_sheet_holds_every_result():
    sheet = np.asarray(contact_sheet([Image.new("RGB", (100, 50), (value, 0, 0)) for value in (10, 20, 30, 40, 50)]))
    reds = set(sheet[..., 0][sheet[..., 1] == 0].tolist())
    assert reds == {10, 20, 30, 40, 50}


def test_a_border_of_tiles_is_found_where_there_is_one():
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(0, 2, (128, 160, 3)), axis=1)
    smooth = ((smooth - smooth.min()) / np.ptp(smooth) * 200).astype(np.uint8)
    mask = np.ones((128, 160), np.uint8)
    tiles = plan_tiles(32, 40, 16, 4)
    lines = edges_of(tiles, (128, 160), (128, 160), 4)
    assert lines.rows and lines.columns
    assert strongest_step(smooth, mask, lines) < 2
    tiled = smooth.copy()
    tiled[:, lines.columns[1] :] += 40
    assert strongest_step(tiled, mask, lines) > 5
    others = elsewhere(lines, mask.shape)
    assert {*others.columns, *lines.columns} == {*range(11, 150)} and not {*others.columns} & {*lines.columns}
    assert strongest_step(tiled, mask, others) < 5
    # What lies under the kept part is nobody's border.
    mask[:, lines.columns[1] - 1 : lines.columns[1] + 1] = 0
    assert strongest_step(tiled, mask, lines) < 2


@pytest.mark.slow
def test_the_nano_base_leaves_no_border_of_tiles():
    """Twice the model's size across, refined by tiles: their edges stand out no more than other places do."""
    pipeline = base_pipeline()
    canvas = expanded(Image.fromarray(draw(make_scene(DEMO_SEED))), 32, 16, 32, 16)
    settings = quick(steps=6, guidance=1.0, feather=2, count=2)
    one, other = (np.asarray(made.image) for made in outpaint_canvas(canvas, pipeline, "car", "sea, dusk", settings))
    painter = Painter(pipeline, "", "", 1.0)
    sizes = plan_sizes(painter, canvas, settings)
    tiles = painter.tiles(canvas.mask)
    assert sizes[-1] == canvas.mask.shape and len(tiles) > 4
    edges = edges_of(tiles, sizes[-1], sizes[-1], painter.cell)

    def seen(picture, rows, columns):
        return [strongest_step(picture, canvas.mask, Lines((n,), ())) for n in rows] + [
            strongest_step(picture, canvas.mask, Lines((), (n,))) for n in columns
        ]

    anywhere = np.quantile(seen(one, range(12, 84), range(12, 116)), 0.9)
    assert np.mean(seen(one, *edges)) < anywhere
    # The measure would see it: two pictures of one canvas, side by side at the tiles' edges.
    mixed = one.copy()
    for first, second in zip(edges.columns[::2], edges.columns[1::2], strict=False):
        mixed[:, first:second] = other[:, first:second]
    assert np.mean(seen(mixed, (), edges.columns)) > anywhere
