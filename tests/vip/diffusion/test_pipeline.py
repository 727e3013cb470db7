import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionInpaintPipeline
from PIL import Image

from schemas.errors import VipError
from schemas.region import BrushRegion, CentreRegion, View
from tests.vip.diffusion.conftest import make_scheduler, make_text_encoder, make_tokenizer, make_unet, make_vae
from tests.vip.diffusion.data import write_base
from vip.diffusion.control import CTSControl
from vip.diffusion.paste import feather_weights, paste_back
from vip.diffusion.picture import to_pixels
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.outpaint.painter import Painter
from vip.regions.mask import render_mask


def parts():
    tokenizer = make_tokenizer()
    return {
        "vae": make_vae(),
        "text_encoder": make_text_encoder(tokenizer),
        "tokenizer": tokenizer,
        "unet": make_unet(),
        "scheduler": make_scheduler(),
    }


def make_pipe(a=0.6, branches="cross_attention", **options):
    made = parts()
    control = CTSControl.from_unet(made["unet"], branches=branches, **options)
    for _, parameter in control.fusion():
        torch.nn.init.constant_(parameter, a)
    pipe = VIPOutpaintPipeline(control=control.eval(), **made)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe():
    return make_pipe()


def picture(seed=0, width=64, height=64):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def mask(region=None, width=64, height=64):
    return Image.fromarray(render_mask(region or CentreRegion(), View(width=width, height=height)) * 255)


def run(pipe, image=None, mask_image=None, seed=3, **arguments):
    if "prompt" not in arguments:
        arguments = {"center_prompt": "wolf", "surrounding_prompt": "sea", **arguments}
    arguments = {
        "num_inference_steps": 2,
        "output_type": "np",
        "generator": torch.Generator().manual_seed(seed),
        **arguments,
    }
    image = picture() if image is None else image
    return pipe(image=image, mask_image=mask_image or mask(), **arguments).images


def test_a_fresh_pipeline_paints_what_its_base_paints():
    fresh = make_pipe(a=0.0)
    total, negative = "Center: wolf; Surrounding: sea", "Center:; Surrounding:"
    base = StableDiffusionInpaintPipeline(
        **{**parts(), "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    )
    base.set_progress_bar_config(disable=True)
    expected = base(
        prompt=total,
        negative_prompt=negative,
        image=picture(),
        mask_image=mask(),
        height=64,
        width=64,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).images
    result = run(fresh, num_inference_steps=3, output_type="latent")
    assert torch.allclose(result, expected, atol=1e-5)


def test_saves_and_loads_with_its_branches(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = VIPOutpaintPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(run(again), run(pipe))
    assert not any(path.suffix in {".bin", ".pt", ".pkl"} for path in tmp_path.rglob("*"))


def test_the_unet_of_a_saved_pipeline_is_a_stock_unet(pipe, tmp_path):
    pipe.unet.save_pretrained(tmp_path)
    assert type(pipe.unet).from_pretrained(tmp_path).state_dict().keys() == make_unet().state_dict().keys()


def test_from_base_puts_fresh_branches_on_an_inpainting_checkpoint(tmp_path):
    made = parts()
    StableDiffusionInpaintPipeline(
        **made, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).save_pretrained(tmp_path)
    pipe = VIPOutpaintPipeline.from_base(str(tmp_path), branches="key_value")
    pipe.set_progress_bar_config(disable=True)
    assert [a.item() for _, a in pipe.control.fusion()] == [0.0] * 5
    assert run(pipe).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("generations", [1, 2])
def test_what_is_saved_does_not_tell_where_its_base_lay(tmp_path, generations):
    saved = []
    for place in ("here", "elsewhere"):
        write_base(tmp_path / place / "base")
        pipe, folder = VIPOutpaintPipeline.from_base(str(tmp_path / place / "base")), tmp_path / place / "saved"
        pipe.save_pretrained(folder)
        if generations == 2:
            folder = tmp_path / place / "again"
            VIPOutpaintPipeline.from_pretrained(tmp_path / place / "saved").save_pretrained(folder)
        files = (file for file in folder.rglob("*") if file.is_file())
        saved.append({file.relative_to(folder).as_posix(): file.read_bytes() for file in files})
    assert saved[0].keys() >= {"model_index.json", "unet/config.json", "vae/config.json", "control/config.json"}
    assert saved[0] == saved[1] and not any(str(tmp_path).encode() in data for data in saved[0].values())


def test_swapping_the_two_texts_changes_the_picture(pipe):
    total = "Center: wolf; Surrounding: sea"
    swapped = run(pipe, prompt=total, center_prompt="sea", surrounding_prompt="wolf")
    assert not np.array_equal(swapped, run(pipe))


def test_a_prompt_string_is_the_same_as_separate_texts(pipe):
    assert np.array_equal(run(pipe, prompt="Center: wolf; Surrounding: sea"), run(pipe))


@pytest.mark.parametrize(
    "text", ["a plain text", "one; two; three", "Center: a; b; Surrounding: c; d", "Surrounding: x", ""]
)
def test_odd_prompts_are_read_without_failing(pipe, text):
    assert run(pipe, prompt=text).shape == (1, 64, 64, 3)


def test_lists_and_several_images_a_prompt_are_the_single_runs(pipe):
    seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
    both = run(
        pipe,
        image=[picture(0), picture(1)],
        mask_image=[mask(), mask(BrushRegion(seed=2))],
        center_prompt=["wolf", "cat"],
        surrounding_prompt=["sea", "sky"],
        num_images_per_prompt=2,
        generator=seeds,
    )
    assert both.shape == (4, 64, 64, 3)
    alone = run(
        pipe,
        image=picture(1),
        mask_image=mask(BrushRegion(seed=2)),
        center_prompt="cat",
        surrounding_prompt="sky",
        seed=3,
    )
    assert np.abs(both[3] - alone[0]).max() <= 1.01 / 255
    assert not np.array_equal(both[2], both[3])


def test_one_picture_takes_several_prompts(pipe):
    assert len(run(pipe, center_prompt=["wolf", "cat"], surrounding_prompt="sea")) == 2


def test_guidance_leads_away_from_the_text_with_nothing_filled_in(pipe):
    empty = {
        "negative_prompt": "Center:; Surrounding:",
        "negative_center_prompt": "",
        "negative_surrounding_prompt": "",
    }
    assert np.array_equal(run(pipe, **empty), run(pipe))
    assert not np.array_equal(run(pipe, negative_prompt="Center: dog; Surrounding: fog"), run(pipe))


def test_without_guidance_the_negative_text_does_not_matter(pipe):
    one = run(pipe, guidance_scale=1.0)
    assert np.array_equal(one, run(pipe, guidance_scale=1.0, negative_prompt="fog"))
    assert not np.array_equal(one, run(pipe))


@pytest.mark.parametrize("region", [CentreRegion(), BrushRegion(seed=5, cover=0.4)])
def test_known_pixels_are_bit_exact_outside_the_feather(pipe, region):
    image, hole = picture(), mask(region)
    painted = np.asarray(run(pipe, image=image, mask_image=hole, output_type="pil", feather=3)[0])
    weights = feather_weights(torch.from_numpy((np.asarray(hole) >= 128).astype(np.float32))[None, None], 3)[
        0, 0
    ].numpy()
    outside = weights == 0
    assert outside.any() and np.array_equal(painted[outside], np.asarray(image)[outside])
    hard = np.asarray(run(pipe, image=image, mask_image=hole, output_type="pil", feather=0)[0])
    assert np.array_equal(hard[np.asarray(hole) < 128], np.asarray(image)[np.asarray(hole) < 128])
    unpasted = np.asarray(run(pipe, image=image, mask_image=hole, output_type="pil", paste=False)[0])
    assert not np.array_equal(unpasted[outside], np.asarray(image)[outside])
    generated = np.asarray(hole) >= 128
    assert np.array_equal(hard[generated], unpasted[generated])


def test_the_feather_falls_on_the_known_side_only():
    hole = np.zeros((1, 1, 9), np.uint8)
    hole[..., 6:] = 1
    weights = feather_weights(torch.from_numpy(hole).float()[None], 2)[0, 0, 0]
    assert torch.allclose(weights, torch.tensor([0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1]))
    white, black = np.full((1, 1, 9, 3), 255, np.uint8), np.zeros((1, 1, 9, 3), np.uint8)
    assert paste_back(white, black, hole, 2)[0, 0, :, 0].tolist() == [0, 0, 0, 0, 85, 170, 255, 255, 255]


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 40), (52, 76)])
def test_any_size_divisible_by_the_vae_factor(pipe, width, height):
    painted = run(pipe, image=picture(0, width, height), mask_image=mask(None, width, height))
    assert painted.shape == (1, height, width, 3)


def test_another_size_crops_and_never_squashes(pipe):
    wide = Image.new("RGB", (128, 64), "black")
    wide.paste((255, 0, 0), (32, 0, 96, 64))
    painted = run(pipe, image=wide, mask_image=mask(None, 128, 64), height=64, width=64, feather=0)
    assert (painted[0, 32, 32] == np.float32([1, 0, 0])).all() and (painted[0, 32, 20] == np.float32([1, 0, 0])).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": picture(0, 66, 64), "mask_image": mask(None, 66, 64)}, "66x64 is not divisible by 4; use 64x64"),
        ({"mask_image": mask(None, 32, 32)}, "the mask 32x32"),
        ({"mask_image": Image.new("L", (64, 64), 0)}, "keeps every pixel"),
        ({"mask_image": Image.new("L", (64, 64), 255)}, "generates every pixel"),
        ({"center_prompt": None, "surrounding_prompt": None}, "no text was given"),
        ({"image": [picture(0), picture(1)], "center_prompt": ["a", "b", "c"]}, "3 texts for 2 pictures"),
        ({"generator": [torch.Generator()] * 3}, "3 generators for 1 pictures"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, "needed"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt is 0; give 1 or more"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; give 1 or more"),
        ({"feather": -3}, "feather is -3; give whole pixels, 0 for none"),
        ({"feather": 1.5}, "feather is 1.5; give whole pixels"),
        ({"width": 0}, "0x64 is not divisible by 4; use 4x64"),
        ({"height": -8}, "64x-8 is not divisible by 4; use 64x4"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts where 1 are needed"),
        (
            {"image": torch.full((3, 64, 64), -1.0)},
            "a picture of float32 holds values of -1 to -1; give uint8",
        ),
        ({"image": np.full((64, 64, 3), 255)}, "a picture of int64 holds values of 255 to 255"),
        ({"image": np.full((64, 64, 3), np.nan)}, "a picture of float64 holds values of nan to nan"),
        ({"output_type": "numpy"}, "output_type 'numpy' is unknown; choose one of pil, np, pt, latent"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(pipe, arguments, message):
    with pytest.raises(VipError, match=message) as caught:
        run(pipe, **arguments)
    assert "\n" not in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_schedulers_are_exchangeable(scheduler):
    pipe = make_pipe()
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    assert np.isfinite(run(pipe)).all()


@pytest.mark.parametrize(
    "form",
    [
        lambda values: values,
        lambda values: values / 255,
        lambda values: torch.from_numpy(values).permute(2, 0, 1),
        lambda values: torch.from_numpy(values).permute(2, 0, 1).float() / 255,
        lambda values: torch.from_numpy(values).permute(2, 0, 1)[None],
    ],
    ids=["uint8", "floats", "uint8 tensor", "float tensor", "batch of one"],
)
def test_every_form_of_a_picture_is_the_same_picture(form):
    values = np.asarray(picture())
    np.testing.assert_array_equal(to_pixels(form(values.copy()))[0], values)


@pytest.mark.parametrize("branches", ["cross_attention", "key_value", "transformer"])
@pytest.mark.parametrize("lose", ["enable_attention_slicing", "fuse_qkv_projections"])
def test_a_unet_that_no_longer_asks_its_branches_is_refused_and_never_paints_as_its_base(branches, lose):
    pipe = make_pipe(branches=branches)
    before = run(pipe)
    getattr(pipe if hasattr(pipe, lose) else pipe.unet, lose)()
    if branches != "transformer":  # whose branches hang on no attention processor
        for use in (run, lambda pipe: Painter(pipe, "wolf", "sea", 1.0)):
            with pytest.raises(VipError, match="attention processors were replaced"):
                use(pipe)
        pipe.control.attach(pipe.unet)
    np.testing.assert_allclose(run(pipe), before, atol=1 / 255 + 1e-6)


@pytest.mark.parametrize("branches", ["cross_attention", "key_value", "transformer"])
def test_a_unet_that_is_exchanged_is_the_one_that_paints(branches):
    pipe, other = make_pipe(branches=branches), make_pipe(branches=branches)
    before, unet = run(pipe), pipe.unet
    with torch.no_grad():
        other.unet.conv_out.weight.mul_(-1)
    wanted = run(other)
    assert not np.array_equal(wanted, before)
    pipe.unet = other.unet
    np.testing.assert_array_equal(run(pipe), wanted)
    pipe.unet = torch.compile(unet, backend="eager")
    np.testing.assert_array_equal(run(pipe), before)


def test_same_generator_same_picture(pipe):
    assert np.array_equal(run(pipe, seed=5), run(pipe, seed=5))
    assert not np.array_equal(run(pipe, seed=5), run(pipe, seed=6))


def test_callbacks_see_and_change_the_latents(pipe):
    seen = []

    def stop(pipe, step, timestep, values):
        seen.append(values["latents"].shape)
        pipe._interrupt = True
        return {"latents": torch.zeros_like(values["latents"])}

    result = run(pipe, output_type="latent", num_inference_steps=4, callback_on_step_end=stop)
    assert seen == [(1, 4, 16, 16)] and not result.any()


def test_a_total_text_that_is_cut_is_reported(pipe, monkeypatch):
    lines = []
    monkeypatch.setattr("vip.diffusion.pipeline.logger.warning", lambda text, *values: lines.append(text % values))
    run(pipe, center_prompt="a" * 70, surrounding_prompt="hidden end")
    assert len(lines) == 1 and lines[0].endswith("hidden end")
