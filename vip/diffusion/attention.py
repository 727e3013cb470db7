"""Attention processors and hooks that put the branches into a stock UNet."""

from typing import Any, NamedTuple

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn
from torch.nn import functional as F

from vip.diffusion.levels import Level, blend, take


class Control(NamedTuple):
    """What the branches read, handed down as ``cross_attention_kwargs={"control": ...}``.

    Attributes:
        center: (B, tokens, channels), the encoded centre text.
        surrounding: (B, tokens, channels), the encoded surrounding text.
        levels: the planned mask at every resolution of the UNet.
    """

    center: torch.Tensor
    surrounding: torch.Tensor
    levels: tuple[Level, ...]


class KeyValue(nn.Module):
    """Key and value projections of one branch; query and output are those of the total branch."""

    def __init__(self, cross_attention_dim: int, inner_dim: int, bias: bool) -> None:
        super().__init__()
        self.to_k = nn.Linear(cross_attention_dim, inner_dim, bias=bias)
        self.to_v = nn.Linear(cross_attention_dim, inner_dim, bias=bias)


class PlainProcessor(AttnProcessor2_0):
    """The stock processor; takes ``control`` without using it, so that diffusers does not warn about it."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        control: Control | None = None,
    ) -> torch.Tensor:
        """Attend as diffusers does."""
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


class CrossAttentionProcessor(PlainProcessor):
    """Total cross-attention, fused with a centre and a surrounding cross-attention of their own.

    The branches are referenced, not owned: they stay out of the UNet's state dict.
    """

    def __init__(self, fusion: nn.Parameter, center: nn.Module, surrounding: nn.Module, level: int) -> None:
        super().__init__()
        self.parts: tuple[nn.Parameter, Any, Any] = (fusion, center, surrounding)
        self.level = level

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        control: Control | None = None,
    ) -> torch.Tensor:
        """Return (1 - a) T + a E, with E computed at the positions of each branch only."""
        fusion, center, surrounding = self.parts
        total = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        level, center_text, surrounding_text = _unpack(control, self.level)
        enhanced = blend(
            _cross(center, take(hidden_states, level.center_rows), center_text),
            _cross(surrounding, take(hidden_states, level.surrounding_rows), surrounding_text),
            level,
        )
        return torch.lerp(total, enhanced, fusion.to(total.dtype))


class KeyValueProcessor(CrossAttentionProcessor):
    """As above with shared query and output: the branches differ in keys and values only."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        control: Control | None = None,
    ) -> torch.Tensor:
        """Fuse before the output projection: it is affine and the weights add up to 1, so that one pass suffices."""
        fusion, center, surrounding = self.parts
        level, center_text, surrounding_text = _unpack(control, self.level)
        query = attn.to_q(hidden_states)
        total = _attend(query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), attn.heads)
        enhanced = blend(
            _regional(query, level.center_rows, center, center_text, attn.heads),
            _regional(query, level.surrounding_rows, surrounding, surrounding_text, attn.heads),
            level,
        )
        fused = torch.lerp(total, enhanced, fusion.to(total.dtype))
        return attn.to_out[1](attn.to_out[0](fused))


class TransformerHook:
    """Forward hook on a ``Transformer2DModel``: runs the whole transformer for each branch and fuses the outputs."""

    def __init__(self, fusion: nn.Parameter, center: nn.Module, surrounding: nn.Module, level: int) -> None:
        self.parts = (fusion, center, surrounding)
        self.level = level

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> tuple[Any]:
        """Return the fused output, (B, channels, height, width), as the one-element tuple that the UNet blocks unpack.

        Both branches see every position, because each one's self-attention reads the whole map.
        """
        fusion, center, surrounding = self.parts
        level, center_text, surrounding_text = _unpack(kwargs["cross_attention_kwargs"]["control"], self.level)
        (features,), (total,) = args, output
        mask = level.mask.to(total.dtype)
        enhanced = torch.lerp(
            center(features, encoder_hidden_states=center_text, return_dict=False)[0],
            surrounding(features, encoder_hidden_states=surrounding_text, return_dict=False)[0],
            mask,
        )
        return (torch.lerp(total, enhanced, fusion.to(total.dtype)),)


def _unpack(control: Control | None, level: int) -> tuple[Level, torch.Tensor, torch.Tensor]:
    if control is None:
        raise ValueError(
            "this UNet has C-T-S branches and was called without their texts and mask: call it through ControlledUNet, "
            "or detach the branches first"
        )
    return control.levels[level], control.center, control.surrounding


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _cross(branch: Attention, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    attended = _attend(branch.to_q(features), branch.to_k(text), branch.to_v(text), branch.heads)
    return branch.to_out[1](branch.to_out[0](attended))


def _regional(
    query: torch.Tensor, rows: torch.Tensor, branch: KeyValue, text: torch.Tensor, heads: int
) -> torch.Tensor:
    return _attend(take(query, rows), branch.to_k(text), branch.to_v(text), heads)
