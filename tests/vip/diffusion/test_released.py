import json

import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from safetensors.torch import load_file, save_file

from schemas.errors import VipError
from tests.vip.diffusion.conftest import make_unet
from tests.vip.diffusion.data import write_base
from tests.vip.diffusion.test_control import inputs
from tests.vip.diffusion.test_pipeline import run
from vip.diffusion.load import load_pipeline
from vip.diffusion.released import load_released_state
from vip.diffusion.unet import ControlledUNet

BLOCKS = ["down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0", "up_blocks.1"]


def released_state(unet, seed=1):
    """A state dict as the released code writes it: triplicated transformers, one ``a`` a block, at randn."""
    torch.manual_seed(seed)
    state = dict(unet.state_dict())
    for name, value in unet.state_dict().items():
        if ".attentions." in name:
            for half in ("center", "surrounding"):
                noise = 0.2 * torch.randn_like(value)
                state[name.replace(".attentions.", f".attentions_{half}.")] = value + noise
    return state | {f"{block}.a": torch.randn(1) for block in BLOCKS}


def formula(unet, state, sample, timestep, total, center, surrounding):
    """The released forward pass, read from its formula, in float64 on modules of its own."""
    unet = unet.double()
    mask = sample[:, 4:5].double()

    def hook_of(block, place):
        copies = []
        for half in ("center", "surrounding"):
            copy = make_unet().double().get_submodule(f"{block}.attentions.{place}")
            prefix = f"{block}.attentions_{half}.{place}."
            copy.load_state_dict({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
            copies.append(copy)
        a = state[f"{block}.a"].double()

        def hook(_, args, output):
            m = torch.nn.functional.interpolate(mask, size=args[0].shape[-2:])
            parts = [
                copy(args[0], text.double()).sample for copy, text in zip(copies, (center, surrounding), strict=True)
            ]
            return ((1 - a) * output[0] + a * ((m != 1) * parts[0] + (m == 1) * parts[1]),)

        return hook

    for block in BLOCKS:
        for place, transformer in enumerate(unet.get_submodule(block).attentions):
            transformer.register_forward_hook(hook_of(block, place))
    return unet(sample.double(), timestep, total.double()).sample


@torch.no_grad()
def test_a_released_state_dict_gives_the_result_of_its_formula_in_float64():
    sample, timestep, total, center, surrounding, levels = inputs()
    sample[:, 4:5] = levels[0].mask
    state = released_state(make_unet())
    unet = make_unet(seed=7)
    control = load_released_state(unet, state)
    assert {path: a.item() for path, a in control.fusion()} == {block: state[f"{block}.a"].item() for block in BLOCKS}
    result = ControlledUNet(unet, control)(sample, timestep, total, center, surrounding, levels)
    expected = formula(make_unet(), state, sample, timestep, total, center, surrounding)
    assert torch.allclose(result.double(), expected, atol=1e-4)
    double = ControlledUNet(unet, control).double()
    wide = [value.double() for value in (total, center, surrounding)]
    assert torch.allclose(double(sample.double(), timestep, *wide, levels), expected, atol=1e-7)
    # The control: with the two branches exchanged the formula is no longer met.
    assert not torch.allclose(double(sample.double(), timestep, wide[0], wide[2], wide[1], levels), expected, atol=1e-3)


def test_a_pipeline_that_the_released_code_saved_loads_and_paints(tmp_path):
    from schemas.train_config import TrainConfig

    write_base(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(released_state(StableDiffusionInpaintPipeline.from_pretrained(tmp_path).unet), file)
    pipe = load_pipeline(str(tmp_path), TrainConfig(branches="transformer"))
    pipe.set_progress_bar_config(disable=True)
    assert pipe.control.config["branches"] == "transformer" and run(pipe).shape == (1, 64, 64, 3)
    for mask_mode in ("area", "nearest"):  # trained with what the saved pipeline paints with
        pipe = load_pipeline(str(tmp_path), TrainConfig(branches="transformer", mask_mode=mask_mode))
        assert pipe.control.config["mask_mode"] == mask_mode
    with pytest.raises(VipError, match="has branches transformer"):
        load_pipeline(str(tmp_path), TrainConfig())


def test_a_state_dict_that_lacks_a_branch_is_refused():
    state = released_state(make_unet())
    del state["mid_block.a"]
    with pytest.raises(VipError, match=r"mid_block\.a"):
        load_released_state(make_unet(), state)


def test_released_names_are_ours(tmp_path):
    from vip.diffusion.control import CTSControl

    unet = make_unet()
    CTSControl.from_unet(unet, branches="transformer").save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "diffusion_pytorch_model.safetensors")) | set(unet.state_dict())
    assert names == set(released_state(unet))
    assert json.loads((tmp_path / "config.json").read_text())["branches"] == "transformer"
