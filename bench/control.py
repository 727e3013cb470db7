"""Cost of C-T-S: step time and peak memory of each variant against the plain UNet, interleaved in one process."""

import statistics
import time
from pathlib import Path

import torch

from schemas.region import CentreRegion, View
from vip.diffusion.architecture import SD15_INPAINTING
from vip.diffusion.control import CTSControl
from vip.diffusion.levels import plan_levels
from vip.diffusion.unet import ControlledUNet
from vip.regions.mask import render_mask

VARIANTS = ("plain", "key_value", "cross_attention", "transformer")
_SMALL = SD15_INPAINTING | {"block_out_channels": (64, 128, 256, 256), "cross_attention_dim": 192}


def main(quick: bool = False) -> None:
    """Forward and backward without optimiser, batch 1, 192 px, central 128 px kept, float32, every weight trained."""
    from diffusers import UNet2DConditionModel

    config, rounds = (_SMALL, 3) if quick else (SD15_INPAINTING, 5)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    _fill(unet)
    text = torch.randn(1, 77, config["cross_attention_dim"])
    sample, target = torch.randn(1, 9, 24, 24), torch.randn(1, 4, 24, 24)
    mask = torch.tensor(render_mask(CentreRegion(keep=2 / 3), View(width=192, height=192)))[None, None].float()
    levels = plan_levels(mask, (24, 24), 4)
    controls = {}
    for branches in VARIANTS[1:]:
        controls[branches] = CTSControl.from_unet(unet, branches=branches)
    timestep = torch.tensor([500])
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    peaks: dict[str, float] = {}
    for turn in range(rounds + 1):
        for name in VARIANTS:
            if name == "plain":
                _detach(unet, controls)
            else:
                model = ControlledUNet(unet, controls[name])
            _reset_peak()
            start = time.perf_counter()
            if name == "plain":
                predicted = unet(sample, timestep, text, return_dict=False)[0]
            else:
                predicted = model(sample, timestep, text, text, text, levels)
            torch.nn.functional.mse_loss(predicted, target).backward()
            if turn:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
            peaks[name] = max(peaks.get(name, 0.0), _peak())
            for module in (unet, *controls.values()):
                module.zero_grad(set_to_none=True)
    width = "quarter width, " if quick else ""
    print(f"SD-1.5 inpainting UNet ({width}192 px, batch 1), forward + backward, {rounds} interleaved rounds")
    print("(all variants' weights stay in memory; peaks differ by gradients and activations)")
    base = {statistic: statistic(seconds["plain"]) for statistic in (min, statistics.median)}
    for name in VARIANTS:
        least, middle = min(seconds[name]), statistics.median(seconds[name])
        print(
            f"  {name:16} min {least:7.3f} s ({least / base[min]:.2f}x)   "
            f"median {middle:7.3f} s ({middle / base[statistics.median]:.2f}x)   peak {peaks[name]:6.2f} GB"
        )


def _fill(module: torch.nn.Module) -> None:
    """Small random weights, much faster than the modules' own initialisation."""
    module.to_empty(device="cpu")
    with torch.no_grad():
        for value in module.parameters():
            value.uniform_(-0.02, 0.02)


def _detach(unet: torch.nn.Module, controls: dict[str, CTSControl]) -> None:
    next(iter(controls.values())).detach(unet)


def _reset_peak() -> None:
    """Let the kernel count the largest resident size anew (Linux)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _peak() -> float:
    """Largest resident size since the last reset, in GB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6
