import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from schemas.region import CentreRegion, View
from vip.diffusion.architecture import SD15_INPAINTING, meta_unet
from vip.diffusion.control import CTSControl
from vip.diffusion.levels import plan_levels
from vip.diffusion.unet import ControlledUNet
from vip.regions.mask import render_mask

# FLOPs of one forward against the plain UNet of SD-1.5 inpainting with every branch computed everywhere, and the
# parameters that are added, in millions; the table has two decimals.
LIMITS = {
    "transformer": ({192: 1.83, 256: 1.84, 512: 1.96}, 534),
    "cross_attention": ({192: 1.14, 256: 1.11, 512: 1.08}, 88),
    "key_value": ({192: 1.06, 256: 1.04, 512: 1.01}, 38),
}


def flops(model, *arguments):
    with FlopCounterMode(display=False) as counter:
        model(*arguments)
    return counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize("branches", list(LIMITS))
def test_flops_at_the_size_of_sd15_stay_below_the_table(branches):
    limits, parameters = LIMITS[branches]
    unet = meta_unet(SD15_INPAINTING)
    text = torch.zeros(1, 77, 768, device="meta")
    sizes = {pixels: torch.zeros(1, 9, pixels // 8, pixels // 8, device="meta") for pixels in limits}
    timestep = torch.zeros(1, device="meta")
    plain = {pixels: flops(unet, sample, timestep, text) for pixels, sample in sizes.items()}
    with torch.device("meta"):
        control = CTSControl.from_unet(unet, branches=branches)
    assert sum(value.numel() for value in control.parameters()) == pytest.approx(parameters * 1e6, abs=0.6e6)
    model = ControlledUNet(unet, control)
    for pixels, sample in sizes.items():
        mask = torch.tensor(render_mask(CentreRegion(keep=2 / 3), View(width=pixels, height=pixels)))[None, None]
        levels = tuple(level.to("meta") for level in plan_levels(mask.float(), (pixels // 8, pixels // 8), 4))
        ratio = flops(model, sample, timestep, text, text, text, levels) / plain[pixels]
        assert round(ratio, 2) <= limits[pixels], (pixels, ratio)
