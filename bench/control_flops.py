"""Floating-point operations of C-T-S at the size of SD-1.5 inpainting, counted by torch; needs no weights."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from schemas.region import CentreRegion, View
from vip.diffusion.architecture import SD15_INPAINTING, meta_unet
from vip.diffusion.control import CTSControl
from vip.diffusion.levels import plan_levels
from vip.diffusion.unet import ControlledUNet
from vip.regions.mask import render_mask

_SIZES = {192: 2 / 3, 256: 0.5, 512: 0.5}


def main(quick: bool = False) -> None:
    """One forward pass, batch 1: central 128 of 192 px kept, else the central half; ``quick`` counts 192 px only."""
    text = torch.zeros(1, 77, SD15_INPAINTING["cross_attention_dim"], device="meta")
    timestep = torch.zeros(1, device="meta")
    for pixels, keep in list(_SIZES.items())[: 1 if quick else None]:
        side = pixels // 8
        sample = torch.zeros(1, 9, side, side, device="meta")
        plain = _flops(meta_unet(SD15_INPAINTING), sample, timestep, text)
        print(f"{pixels} px: plain {plain / 1e9:.1f} GFLOP")
        mask = torch.tensor(render_mask(CentreRegion(keep=keep), View(width=pixels, height=pixels)))[None, None]
        levels = tuple(level.to("meta") for level in plan_levels(mask.float(), (side, side), 4))
        for branches in ("key_value", "cross_attention", "transformer"):
            unet = meta_unet(SD15_INPAINTING)
            with torch.device("meta"):
                control = CTSControl.from_unet(unet, branches=branches)
            ratio = _flops(ControlledUNet(unet, control), sample, timestep, text, text, text, levels) / plain
            added = sum(value.numel() for value in control.parameters()) / 1e6
            print(f"  {branches:16} {ratio:.3f}x   +{added:.1f} M parameters")


def _flops(model: torch.nn.Module, *arguments: object) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*arguments)
    return int(counter.get_total_flops())
