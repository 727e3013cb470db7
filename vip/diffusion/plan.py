"""Plan: what a training run will take, told without weights and without a step of work."""

from collections.abc import Sequence

import torch

from schemas.errors import VipError
from schemas.train_config import TrainConfig
from schemas.training import ShardCaptions, TrainPlan
from vip.diffusion.architecture import architecture_of, meta_unet
from vip.diffusion.census import take_census
from vip.diffusion.control import CTSControl
from vip.diffusion.learner import choose_trainable
from vip.diffusion.levels import level_sizes, plan_levels
from vip.diffusion.unet import ControlledUNet

_FLOAT = 4


def plan(
    config: TrainConfig, base: str | None = None, shards: Sequence[ShardCaptions] = (), plain: bool = False
) -> TrainPlan:
    """Check a config against its base and its data.

    Args:
        config: the run.
        base: folder of the base where ``config.base`` is not itself a folder or a known hub id.
        shards: the data, where they are there already; their captions are counted.
        plain: count the forward pass of the UNet without its branches.

    Raises:
        VipError: where the run could not start.
    """
    unet_config, factor, frozen = architecture_of(base or _folder(config.base))
    view = config.view
    if view.width % factor or view.height % factor:
        raise VipError(
            f"view {view.width}x{view.height} is not divisible by {factor}, the factor of this base's VAE",
            f"use {max(1, view.width // factor) * factor}x{max(1, view.height // factor) * factor}",
        )
    unet = meta_unet(unet_config)
    with torch.device("meta"):
        control = CTSControl.from_unet(unet, config.branches, config.mask_mode, config.prompt_style)
    model = ControlledUNet(unet, control)
    choose_trainable(model, config.trainable)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    total = sum(value.numel() for value in model.parameters())
    # Gradient and the two moments of AdamW, and the average, for what is trained; every weight once.
    copies = 3 + bool(config.ema)
    height, width = view.height // factor, view.width // factor
    census = take_census(shards, config) if shards else None
    images = sum(census.counts) if census else None
    samples = config.steps * config.batch * config.accumulation * config.processes
    return TrainPlan(
        base=config.base,
        branches=config.branches,
        unet_parameters=total - sum(value.numel() for value in control.parameters()),
        branch_parameters=sum(value.numel() for value in control.parameters()),
        frozen_parameters=frozen,
        trainable_parameters=trained,
        memory_bytes=_FLOAT * (total + frozen + copies * trained),
        forward_flops=_flops(model, unet_config, (height, width), plain),
        latents=(height, width),
        levels=tuple(level_sizes(height, width, control.config["levels"])),
        steps=config.steps,
        samples=samples,
        images=images,
        pairs=census.pairs if census else None,
        missing_captions=census.missing if census else None,
        regions=census.regions if census else {},
        epochs=samples / images if images else None,
    )


def _folder(base: str) -> str:
    if base != "nano":
        return base
    from storage.models import nano_folder

    return str(nano_folder("base"))


def _flops(model: ControlledUNet, config: dict, size: tuple[int, int], plain: bool) -> int:
    """Floating-point operations of one forward pass of one sample whose centre, half as wide and high, is kept."""
    from torch.utils.flop_counter import FlopCounterMode

    mask = torch.ones(1, 1, 4 * size[0], 4 * size[1])
    mask[..., size[0] : 3 * size[0], size[1] : 3 * size[1]] = 0
    levels = tuple(level.to("meta") for level in plan_levels(mask, size, model.control.config["levels"]))
    text = torch.zeros(1, 77, config["cross_attention_dim"], device="meta")
    sample = torch.zeros(1, config["in_channels"], *size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if plain:
            model.control.detach(model.unet)
            model.unet(sample, torch.zeros(1, device="meta"), text)
        else:
            model(sample, torch.zeros(1, device="meta"), text, text, text, levels)
    return int(counter.get_total_flops())
