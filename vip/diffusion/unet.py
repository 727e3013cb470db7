"""ControlledUNet: a stock UNet and its C-T-S branches as one module."""

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from vip.diffusion.attention import Control
from vip.diffusion.control import CTSControl
from vip.diffusion.levels import Level


class ControlledUNet(nn.Module):
    """One module to train, wrap and compile; owns a stock UNet and the branches that hang on it."""

    def __init__(self, unet: UNet2DConditionModel, control: CTSControl) -> None:
        super().__init__()
        self.unet = unet
        self.control = control
        control.attach(unet)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | int,
        total: torch.Tensor,
        center: torch.Tensor,
        surrounding: torch.Tensor,
        levels: tuple[Level, ...],
        kept: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] | None = None,
    ) -> torch.Tensor:
        """Predict noise (or what the scheduler's prediction type says).

        Args:
            sample: (B, 9, h, w) noisy latents, mask, masked-image latents.
            timestep: () or (B,).
            total, center, surrounding: (B, tokens, channels) encoded texts.
            levels: the masks, from :func:`vip.diffusion.levels.plan_levels`, on the device of ``sample``.
            kept: a dictionary, empty at first, to hand to every call with the same texts; see
                :class:`~vip.diffusion.attention.Control`.

        Returns:
            (B, 4, h, w).
        """
        control = Control(center, surrounding, tuple(levels), kept)
        return self.unet(sample, timestep, total, cross_attention_kwargs={"control": control}, return_dict=False)[0]

    def enable_gradient_checkpointing(self) -> None:
        """Trade compute for memory in the UNet's blocks and in the branches."""
        self.unet.enable_gradient_checkpointing()
        if self.control.config["branches"] == "transformer":
            self.control.enable_gradient_checkpointing()
