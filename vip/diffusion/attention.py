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
        kept: keys and values by branch, filled by the first call that is handed it and read by the next ones: a sampler
            calls many times with the same texts. None in training.
    """

    center: torch.Tensor
    surrounding: torch.Tensor
    levels: tuple[Level, ...]
    kept: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] | None = None


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
        control = _given(control)
        level = control.levels[self.level]
        enhanced = blend(
            self._cross(center, take(hidden_states, level.center_rows), control.center, control, level),
            self._cross(surrounding, take(hidden_states, level.surrounding_rows), control.surrounding, control, level),
            level,
        )
        return torch.lerp(total, enhanced, fusion.to(total.dtype))

    @staticmethod
    def _cross(
        branch: Attention, features: torch.Tensor, text: torch.Tensor, control: Control, level: Level
    ) -> torch.Tensor:
        attended = _attend_text(branch.to_q(features), branch, text, branch.heads, control, level)
        return branch.to_out[1](branch.to_out[0](attended))


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
        control = _given(control)
        level = control.levels[self.level]
        query = attn.to_q(hidden_states)
        total = _attend(query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), attn.heads)
        enhanced = blend(
            _attend_text(take(query, level.center_rows), center, control.center, attn.heads, control, level),
            _attend_text(
                take(query, level.surrounding_rows), surrounding, control.surrounding, attn.heads, control, level
            ),
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
        control = _given(kwargs["cross_attention_kwargs"]["control"])
        (features,), (total,) = args, output
        mask = control.levels[self.level].mask.to(total.dtype)
        enhanced = torch.lerp(
            center(features, encoder_hidden_states=control.center, return_dict=False)[0],
            surrounding(features, encoder_hidden_states=control.surrounding, return_dict=False)[0],
            mask,
        )
        return (torch.lerp(total, enhanced, fusion.to(total.dtype)),)


def _given(control: Control | None) -> Control:
    if control is None:
        raise ValueError(
            "this UNet has C-T-S branches and was called without their texts and mask: call it through ControlledUNet, "
            "or detach the branches first"
        )
    return control


def _attend_text(
    query: torch.Tensor, branch: Attention | KeyValue, text: torch.Tensor, heads: int, control: Control, level: Level
) -> torch.Tensor:
    """Attention of ``query`` (B, n, inner) to ``text`` (B, tokens, width) through the branch's keys and values."""
    if control.kept is not None:
        if branch not in control.kept:
            control.kept[branch] = branch.to_k(text), branch.to_v(text)
        return _attend(query, *control.kept[branch], heads)
    # A compiled model would be compiled anew for every outcome of a choice by the positions of one mask.
    positions = level.mask[0].numel() if torch.compiler.is_compiling() else query.shape[1]
    if _less_work(positions, query.shape[-1], text, heads) and _is_bare(branch.to_k) and _is_bare(branch.to_v):
        return _attend_unprojected(query, branch, text, heads)
    return _attend(query, branch.to_k(text), branch.to_v(text), heads)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _is_bare(projection: nn.Module) -> bool:
    """Whether a projection is its weight and no more: no bias, and nothing that others have wrapped around it."""
    return type(projection) is nn.Linear and projection.bias is None


def _less_work(positions: int, inner: int, text: torch.Tensor, heads: int) -> bool:
    """Whether few positions read a long text: then it is less work to bring the queries to the text than back."""
    _, tokens, width = text.shape
    return positions * width * (inner + heads * tokens) < tokens * inner * (width + positions)


def _attend_unprojected(
    query: torch.Tensor, branch: Attention | KeyValue, text: torch.Tensor, heads: int
) -> torch.Tensor:
    """The same attention by the associative law: q (W_k x)' = (q W_k) x', and p (W_v x) = W_v (p x), head by head."""
    to_k, to_v = (part.weight.unflatten(0, (heads, -1)) for part in (branch.to_k, branch.to_v))
    query = query.unflatten(-1, (heads, -1)).transpose(1, 2)
    seen = text.unsqueeze(1).expand(-1, heads, -1, -1)
    scale = query.shape[-1] ** -0.5
    read = F.scaled_dot_product_attention(query @ to_k, seen, seen, scale=scale)
    return (read @ to_v.transpose(-1, -2)).transpose(1, 2).flatten(2)
