"""Architectures: what a base looks like, without its weights."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from schemas.errors import VipError

SD15_INPAINTING: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""The UNet of Stable Diffusion 1.5 inpainting, 859.5 million parameters."""

SD2_INPAINTING: dict[str, Any] = SD15_INPAINTING | {
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
"""The UNet of Stable Diffusion 2 inpainting."""

# Parameters of VAE and text encoder (CLIP ViT-L/14, OpenCLIP ViT-H/14 without its last layer), both frozen.
_FROZEN = {"sd15": 83_653_863 + 123_060_480, "sd2": 83_653_863 + 340_387_840}

_KNOWN = {
    "stable-diffusion-inpainting": "sd15",
    "stable-diffusion-v1-5-inpainting": "sd15",
    "stable-diffusion-2-inpainting": "sd2",
}


def meta_unet(config: dict[str, Any]) -> UNet2DConditionModel:
    """A UNet without weights, on torch's meta device."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


def architecture_of(base: str) -> tuple[dict[str, Any], int, int]:
    """The UNet configuration, VAE factor and number of frozen parameters of a base, read without its weights.

    Args:
        base: a folder with a pipeline, or the hub id of a Stable Diffusion inpainting pipeline known by name.

    Raises:
        VipError: where neither a folder nor a known name says what the base looks like.
    """
    folder = Path(base)
    if (folder / "unet" / "config.json").is_file():
        config, vae = (_config(folder / part / "config.json") for part in ("unet", "vae"))
        if not isinstance(vae.get("block_out_channels"), list):
            raise VipError(f"{folder / 'vae' / 'config.json'} names no block_out_channels", "download the base again")
        return config, 2 ** (len(vae["block_out_channels"]) - 1), _frozen_parameters(folder)
    known = _KNOWN.get(base.rpartition("/")[2])
    if known is None:
        raise VipError(
            f"the architecture of {base} is not known without its files",
            f"give a local folder, or one of: {', '.join(sorted(_KNOWN))}",
        )
    return (SD15_INPAINTING if known == "sd15" else SD2_INPAINTING), 8, _FROZEN[known]


def _config(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise VipError(f"{path} cannot be read: {error}", "download the base again") from error
    if not isinstance(value, dict):
        raise VipError(f"{path} is no JSON object", "download the base again")
    return value


def _frozen_parameters(folder: Path) -> int:
    from safetensors import safe_open

    total = 0
    for part in ("vae", "text_encoder"):
        for file in sorted((folder / part).glob("*.safetensors")):
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  # safe_open is no mapping
                    shape = tensors.get_slice(name).get_shape()
                    total += int(torch.Size(shape).numel())
    return total
