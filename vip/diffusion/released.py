"""Read checkpoints of VIP's released code into our modules."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler, PNDMScheduler
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from schemas.errors import VipError
from vip.diffusion.control import CTSControl
from vip.diffusion.levels import MaskMode
from vip.diffusion.pipeline import VIPOutpaintPipeline

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_SCHEDULERS = {"DDIMScheduler": DDIMScheduler, "PNDMScheduler": PNDMScheduler}


def is_released(folder: Path) -> bool:
    """Whether ``folder`` is a pipeline saved by the released code: its UNet holds the branches."""
    file = folder / "unet" / _WEIGHTS
    if not file.is_file():
        return False
    with safe_open(file, "pt") as tensors:
        return any(_is_control(name) for name in tensors.keys())  # noqa: SIM118  # safe_open is no mapping


def load_released(folder: Path, mask_mode: MaskMode = "nearest") -> VIPOutpaintPipeline:
    """A pipeline with ``branches="transformer"`` from one that the released code saved.

    Parameter names are the same (``down_blocks.0.attentions_center.1...``, ``down_blocks.0.a``), so nothing is renamed:
    what belongs to the branches goes to the control, the rest to a stock UNet.

    Args:
        folder: diffusers pipeline folder with safetensors weights.
        mask_mode: ``nearest`` is what the released code trained with, except that ours stays centred.

    Raises:
        VipError: where weights are missing or left over.
    """
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(str(folder / "unet")))
    control = load_released_state(unet, load_file(folder / "unet" / _WEIGHTS), mask_mode)
    index = DiffusionPipeline.load_config(str(folder))
    scheduler = _SCHEDULERS.get(index.get("scheduler", ["", ""])[1], DDIMScheduler)
    return VIPOutpaintPipeline(
        **frozen_parts(folder),
        unet=unet.eval(),
        control=control,
        scheduler=scheduler.from_pretrained(str(folder / "scheduler")),
    )


def frozen_parts(folder: Path) -> dict[str, Any]:
    """The parts of a pipeline that are never trained: ``vae``, ``text_encoder`` and ``tokenizer``, in float32."""
    options = {"dtype": torch.float32, "use_safetensors": True}
    return {
        "vae": AutoencoderKL.from_pretrained(str(folder / "vae"), **options),
        "text_encoder": CLIPTextModel.from_pretrained(str(folder / "text_encoder"), **options),
        "tokenizer": CLIPTokenizer.from_pretrained(str(folder / "tokenizer")),
    }


def load_released_state(
    unet: UNet2DConditionModel, state: dict[str, torch.Tensor], mask_mode: MaskMode = "nearest"
) -> CTSControl:
    """Load a released UNet state dict into ``unet`` (stock parts) and a new control (branches), which is returned.

    Raises:
        VipError: where the state dict does not fit this UNet.
    """
    control = CTSControl.from_unet(unet, branches="transformer", mask_mode=mask_mode)
    parts = (
        (control, {name: value for name, value in state.items() if _is_control(name)}),
        (unet, {name: value for name, value in state.items() if not _is_control(name)}),
    )
    for module, values in parts:
        try:
            module.load_state_dict(values)
        except RuntimeError as error:
            raise VipError(
                f"this is no UNet of VIP's released code: {str(error).splitlines()[-1].strip()}",
                "check that the checkpoint and its unet/config.json belong together",
            ) from error
    return control.eval()


def _is_control(name: str) -> bool:
    return ".attentions_center." in name or ".attentions_surrounding." in name or name.rpartition(".")[2] == "a"
