"""Cost of C-T-S: step time and peak memory of each variant against the plain UNet, interleaved in one process."""

import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from schemas.region import CentreRegion, View
from vip.diffusion.architecture import SD15_INPAINTING, meta_unet
from vip.diffusion.control import CTSControl
from vip.diffusion.levels import plan_levels
from vip.diffusion.unet import ControlledUNet
from vip.regions.mask import render_mask

VARIANTS = ("plain", "key_value", "cross_attention", "transformer")
_SMALL = SD15_INPAINTING | {"block_out_channels": (64, 128, 256, 256), "cross_attention_dim": 192}


def main(quick: bool = False) -> None:
    """Forward and backward without optimiser, batch 1, 192 px, central 128 px kept, float32, every weight trained.

    Every turn makes its variant's branches and drops them again, so that each peak holds the weights, gradients and
    activations of one variant and no other.
    """
    config, rounds = (_SMALL, 3) if quick else (SD15_INPAINTING, 5)
    unet = _filled(meta_unet(config))
    text = torch.randn(1, 77, config["cross_attention_dim"])
    sample, target = torch.randn(1, 9, 24, 24), torch.randn(1, 4, 24, 24)
    mask = torch.tensor(render_mask(CentreRegion(keep=2 / 3), View(width=192, height=192)))[None, None].float()
    levels = plan_levels(mask, (24, 24), 4)
    timestep = torch.tensor([500])
    wall: dict[str, list[float]] = {name: [] for name in VARIANTS}
    spent: dict[str, list[float]] = {name: [] for name in VARIANTS}
    peaks: dict[str, float] = dict.fromkeys(VARIANTS, 0.0)
    for turn in range(rounds + 1):
        for name in VARIANTS:
            run = _variant(unet, config, name)
            arguments = (text,) if name == "plain" else (text, text, text, levels)
            _reset_peak()
            start, used = time.perf_counter(), time.process_time()
            torch.nn.functional.mse_loss(run(sample, timestep, *arguments), target).backward()
            took, cpu, peak = time.perf_counter() - start, time.process_time() - used, _peak()
            if turn:  # the first round warms up
                wall[name].append(took)
                spent[name].append(cpu)
                peaks[name] = max(peaks[name], peak)
            unet.zero_grad(set_to_none=True)
            del run
            gc.collect()
            said = f"  round {turn}  {name:16} {took:7.3f} s, of CPU {cpu:7.3f} s, peak {peak:6.2f} GB"
            print(said, file=sys.stderr, flush=True)
    width = "quarter width, " if quick else ""
    print(f"SD-1.5 inpainting UNet ({width}192 px, batch 1), forward + backward, {rounds} interleaved rounds, ", end="")
    print(f"{torch.get_num_threads()} threads; on a busy machine the seconds of CPU of one thread tell more")
    for name in VARIANTS:
        print(
            f"  {name:16} {_ratio(min, wall, name)}   {_ratio(statistics.median, wall, name)}   "
            f"of CPU {_ratio(min, spent, name)}   peak {peaks[name]:6.2f} GB"
        )


def _ratio(statistic: Callable[[list[float]], float], seconds: dict[str, list[float]], name: str) -> str:
    """Such as ``min 1.234 s (1.05x)``, against the plain UNet by the same statistic."""
    value = statistic(seconds[name])
    return f"{statistic.__name__} {value:7.3f} s ({value / statistic(seconds['plain']):.3f}x)"


def _variant(unet: Any, config: dict[str, Any], name: str) -> Any:
    """What predicts noise: the plain UNet, or the same one with branches of its own."""
    if name == "plain":
        return lambda *arguments: unet(*arguments, return_dict=False)[0]
    with torch.device("meta"):
        control = CTSControl.from_unet(meta_unet(config), branches=name)  # type: ignore[arg-type]
    return _Attached(unet, _filled(control))


class _Attached:
    """A controlled UNet that takes its branches off again when it is dropped."""

    def __init__(self, unet: Any, control: CTSControl) -> None:
        self._model, self._control = ControlledUNet(unet, control), control

    def __call__(self, *arguments: Any) -> torch.Tensor:
        return self._model(*arguments)

    def __del__(self) -> None:
        self._control.detach(self._model.unet)


def _filled(module: Any) -> Any:
    """Small random weights for a module of the meta device, much faster than the modules' own initialisation."""
    module.to_empty(device="cpu")
    with torch.no_grad():
        for value in module.parameters():
            value.uniform_(-0.02, 0.02)
    return module


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
