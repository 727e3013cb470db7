import json

import numpy as np
import pytest

from schemas.errors import VipError
from storage.models import nano_folder
from vip.nano.score import parse_seeds


def _parameters(folder):
    from safetensors import safe_open

    count = 0
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "np") as file:
            count += sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
    return count


def test_the_family_is_as_small_as_promised():
    folder = nano_folder("base").parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 30e6
    assert _parameters(nano_folder("captioner")) <= 4e6
    assert _parameters(nano_folder("base")) <= 8e6
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".ckpt")]


def test_the_captioner_has_all_that_a_server_asks_for():
    folder = nano_folder("captioner")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Blip2ForConditionalGeneration"] and config["dtype"] == "float32"
    for name in ("chat_template.jinja", "tokenizer.json", "preprocessor_config.json", "generation_config.json"):
        assert (folder / name).exists(), name


def test_the_base_loads_as_an_inpainting_pipeline_and_paints():
    import torch
    from diffusers import StableDiffusionInpaintPipeline

    from vip.nano.regions import DEFAULT, mask_of
    from vip.nano.score_base import inpaint, load_base, pictures_of

    pipeline = load_base(nano_folder("base"))
    assert isinstance(pipeline, StableDiffusionInpaintPipeline)
    assert pipeline.unet.config.in_channels == 9 and pipeline.tokenizer.model_max_length == 77
    assert pipeline.unet.dtype == pipeline.vae.dtype == pipeline.text_encoder.dtype == torch.float32
    pictures, _ = pictures_of(range(2))
    painted = inpaint(pipeline, pictures, ["Center: red house; Surrounding: sea, night"] * 2, steps=2)
    kept = mask_of(DEFAULT) == 0
    assert painted.shape == (2, 64, 64, 3)
    assert np.array_equal(painted[:, kept], pictures[:, kept]), "the known centre is pasted back"
    assert not np.array_equal(painted, pictures)


def test_the_autoencoder_and_the_probe_know_the_world():
    from vip.nano.probe import load, read
    from vip.nano.score_base import load_base, pictures_of, rebuild, score_autoencoder

    pictures, labels = pictures_of(range(64))
    vae = load_base(nano_folder("base")).vae
    assert score_autoencoder(vae, pictures)["psnr_mean"] > 26
    probe = load(nano_folder("probe"))
    assert (read(probe, pictures) == labels).mean() > 0.98
    assert (read(probe, rebuild(vae, pictures)) == labels).mean() > 0.96


@pytest.mark.slow
def test_the_base_paints_what_it_is_told_far_beyond_chance():
    from vip.nano.probe import load
    from vip.nano.score_base import load_base, score_obedience

    figures = score_obedience(load_base(nano_folder("base")), load(nano_folder("probe")), range(24))
    assert figures["share_of_ceiling"] > 0.6
    assert figures["obedience"] > 2 * max(figures["chance_no_text"], figures["chance_shuffled"])


@pytest.mark.parametrize("text", ["", "5", "7:7", "9:3", "-1:4", "0:99999999", "a:b"])
def test_seeds_that_are_no_held_out_range_are_refused(text):
    with pytest.raises(VipError):
        parse_seeds(text)
