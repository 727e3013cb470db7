"""CTSControl: the centre and surrounding branches and the fusion weights of one UNet."""

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast, get_args

import torch
from diffusers import ConfigMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.modeling_utils import ModelMixin  # diffusers looks this name up here when it loads a pipeline
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.utils.hooks import RemovableHandle

from schemas.errors import VipError
from vip.diffusion.attention import (
    CrossAttentionProcessor,
    KeyValue,
    KeyValueProcessor,
    PlainProcessor,
    TransformerHook,
)
from vip.diffusion.levels import MaskMode
from vip.diffusion.prompt import PromptStyle

Branches = Literal["cross_attention", "key_value", "transformer"]

# The hooks that hang on a UNet, whoever attached them: a second control replaces the first and never adds to it.
_HOOKS: "weakref.WeakKeyDictionary[nn.Module, list[RemovableHandle]]" = weakref.WeakKeyDictionary()


_KNOWN = {"branches": get_args(Branches), "mask_mode": get_args(MaskMode), "prompt_style": get_args(PromptStyle)}
_MOST_LEVELS = 16
_SIDES = range(8, 8193)  # as of schemas.region.View


def _check_said(said: dict[str, str]) -> None:
    """Nothing else would: any other word is taken for one of the known ones, silently.

    Raises:
        ValueError: naming the first that is not known.
    """
    for name, value in said.items():
        if value not in _KNOWN[name]:
            raise ValueError(f"{name} of control is {value!r}, none of {', '.join(_KNOWN[name])}")


def _check_sizes(levels: list[int], count: int, view: Sequence[int] | None) -> None:
    """What a checkpoint says of sizes is read when it paints, long after it was loaded.

    Raises:
        ValueError: where the levels of the blocks are not those that are counted, or the view is none.
    """
    if not levels or not isinstance(count, int) or not 0 <= min(levels) <= max(levels) < count <= _MOST_LEVELS:
        raise ValueError(f"control has branches at the levels {levels} of {count!r}")
    whole = isinstance(view, list | tuple) and len(view) == 2
    if view is not None and not (whole and all(isinstance(side, int) and side in _SIDES for side in view)):
        raise ValueError(f"the view of control is {view!r}, not width and height in pixels")


class BlockBranches(nn.Module):
    """The branches of one UNet block.

    Attributes:
        a: (1,) the fusion weight of the block; 0 = base model, 1 = regional text only.
        attentions_center, attentions_surrounding: one entry for each transformer of the block.
    """

    def __init__(self, center: list[nn.Module], surrounding: list[nn.Module]) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(1))
        self.attentions_center = nn.ModuleList(center)
        self.attentions_surrounding = nn.ModuleList(surrounding)


class CTSControl(ModelMixin, ConfigMixin):
    """The learned parts that Center-Total-Surrounding control adds to a stock ``UNet2DConditionModel``.

    In every block with cross-attention, h = (1 - a) T + a ((1 - m) C + m S): T is the block's own attention on the
    total text, C and S are branches on the centre and the surrounding text, m is the mask (1 = generate) at that
    resolution, and ``a`` is one learned scalar per block, 0 at the start, so that a fresh model is its base model.

    ``branches`` says what is multiplied: ``cross_attention`` the whole cross-attention (VIP's paper), ``key_value``
    only its key and value projections, ``transformer`` the whole ``Transformer2DModel`` (VIP's released code; parameter
    names are those of its state dict). The UNet is not changed: branches hang on it as attention processors or forward
    hooks, and its own state dict stays that of a plain UNet.

    Args:
        branches: see above.
        blocks: ``[{"path", "level", "attentions": [...]}, ...]`` as :meth:`from_unet` writes it.
        levels: number of resolutions of the UNet.
        mask_mode: ``area`` (soft) or ``nearest`` (hard), see :func:`vip.diffusion.levels.pooled_mask`.
        prompt_style: see :func:`vip.diffusion.prompt.make_prompt`.
        view: width and height in pixels of what it was trained on; None where nobody said.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        blocks: list[dict[str, Any]],
        levels: int,
        branches: Branches = "cross_attention",
        mask_mode: MaskMode = "area",
        prompt_style: PromptStyle = "labelled",
        view: tuple[int, int] | None = None,
    ) -> None:
        _check_said({"branches": branches, "mask_mode": mask_mode, "prompt_style": prompt_style})
        _check_sizes([block["level"] for block in blocks], levels, view)
        super().__init__()
        self.down_blocks = nn.ModuleDict()
        self.up_blocks = nn.ModuleDict()
        for block in blocks:
            made = BlockBranches(
                [_make_branch(branches, spec) for spec in block["attentions"]],
                [_make_branch(branches, spec) for spec in block["attentions"]],
            )
            group, _, number = block["path"].partition(".")
            if group == "mid_block":
                self.mid_block = made
            else:
                getattr(self, group)[number] = made

    @classmethod
    def from_unet(
        cls,
        unet: UNet2DConditionModel,
        branches: Branches = "cross_attention",
        mask_mode: MaskMode = "area",
        prompt_style: PromptStyle = "labelled",
    ) -> "CTSControl":
        """Fresh branches for ``unet``: copies of its own attention, with every ``a`` at 0.

        Raises:
            VipError: where the UNet has no cross-attention of the kind that Stable Diffusion 1.x and 2.x have.
        """
        found = [(path, level, block) for path, level, block in _walk(unet) if _transformers(block)]
        if not found:
            raise VipError(
                "the UNet has no cross-attention, so there is nothing to control", "choose a text-conditioned UNet"
            )
        blocks = [
            {"path": path, "level": level, "attentions": [_spec(branches, item) for item in _transformers(block)]}
            for path, level, block in found
        ]
        control = cls(blocks, len(unet.down_blocks), branches, mask_mode, prompt_style)
        nn.Module.to(control, device=unet.device, dtype=unet.dtype)
        for path, _, block in found:
            made = control.block(path)
            for branch in (made.attentions_center, made.attentions_surrounding):
                for item, own in zip(branch, _transformers(block), strict=True):
                    _copy_weights(branches, item, own)
        return control

    def block(self, path: str) -> BlockBranches:
        """The branches of the UNet block at ``path``, such as ``down_blocks.0`` or ``mid_block``."""
        group, _, number = path.partition(".")
        found = getattr(self, group)
        return cast(BlockBranches, found[number] if number else found)

    def attach(self, unet: UNet2DConditionModel) -> None:
        """Hang the branches on ``unet``, which from then on needs their texts and masks in each call.

        Raises:
            VipError: where the branches were made for another architecture.
        """
        self.detach(unet)
        blocks = {path: block for path, _, block in _walk(unet)}
        handles: list[RemovableHandle] = []
        for spec in self.config["blocks"]:
            block = blocks.get(spec["path"])
            if (
                block is None
                or [_spec(self.config["branches"], item) for item in _transformers(block)] != spec["attentions"]
            ):
                raise VipError(
                    f"the branches do not fit block {spec['path']} of this UNet",
                    "load the UNet that they were trained with",
                )
            made = self.block(spec["path"])
            parts = zip(_transformers(block), made.attentions_center, made.attentions_surrounding, strict=True)
            for transformer, center, surrounding in parts:
                handles += self._attach_one(transformer, made.a, center, surrounding, spec["level"])
        _HOOKS[unet] = handles

    def _attach_one(
        self, transformer: Transformer2DModel, a: nn.Parameter, center: nn.Module, surrounding: nn.Module, level: int
    ) -> list[RemovableHandle]:
        for inner in transformer.transformer_blocks:
            inner.attn1.set_processor(PlainProcessor())
            inner.attn2.set_processor(PlainProcessor())
        if self.config["branches"] == "transformer":
            hook = TransformerHook(a, center, surrounding, level)
            return [transformer.register_forward_hook(hook, with_kwargs=True)]
        processor = KeyValueProcessor if self.config["branches"] == "key_value" else CrossAttentionProcessor
        center, surrounding = cast(nn.ModuleList, center), cast(nn.ModuleList, surrounding)
        for inner, own_center, own_surrounding in zip(transformer.transformer_blocks, center, surrounding, strict=True):
            inner.attn2.set_processor(processor(a, own_center, own_surrounding, level))
        return []

    def detach(self, unet: UNet2DConditionModel) -> None:
        """Take the branches off ``unet`` again; it is then the plain UNet."""
        for handle in _HOOKS.pop(unet, []):
            handle.remove()
        unet.set_attn_processor(AttnProcessor2_0())

    def require_attached(self, unet: UNet2DConditionModel) -> None:
        """Find out whether ``unet`` still asks the branches.

        Raises:
            VipError: where its attention processors were replaced, as by ``enable_attention_slicing``: diffusers then
                drops the regional texts with a warning, and what is painted is the base's.
        """
        if self.config["branches"] == "transformer":  # its branches hang on no processor
            return
        transformers = [item for _, _, block in _walk(unet) for item in _transformers(block)]
        inner = [block.attn2.processor for item in transformers for block in item.transformer_blocks]
        if not all(isinstance(processor, CrossAttentionProcessor) for processor in inner):
            raise VipError(
                "the UNet's attention processors were replaced, so that it would not read the regional texts",
                "leave out attention slicing, xformers and fused projections (attention takes no more memory without), "
                "or call control.attach(unet) again",
            )

    def fusion(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every block's path and its ``a``."""
        for spec in self.config["blocks"]:
            yield spec["path"], self.block(spec["path"]).a

    def branch_parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter but the ``a``."""
        return (value for name, value in self.named_parameters() if name.rpartition(".")[2] != "a")


def _walk(unet: UNet2DConditionModel) -> Iterator[tuple[str, int, nn.Module]]:
    """Path, level (0 = the resolution of the latents) and module of every block of ``unet``."""
    level = 0
    for number, block in enumerate(unet.down_blocks):
        yield f"down_blocks.{number}", level, block
        level += getattr(block, "downsamplers", None) is not None
    if unet.mid_block is not None:
        yield "mid_block", level, unet.mid_block
    for number, block in enumerate(unet.up_blocks):
        yield f"up_blocks.{number}", level, block
        level -= getattr(block, "upsamplers", None) is not None


def _transformers(block: nn.Module) -> list[Transformer2DModel]:
    """The transformers with cross-attention of one UNet block."""
    return [item for item in getattr(block, "attentions", None) or [] if isinstance(item, Transformer2DModel)]


def _spec(branches: Branches, transformer: Transformer2DModel) -> Any:
    """What it takes to build a branch for ``transformer``, as plain JSON values."""
    if branches == "transformer":
        return {key: value for key, value in transformer.config.items() if not key.startswith("_")}
    return [_attention_spec(block.attn2) for block in transformer.transformer_blocks]


def _attention_spec(attention: Attention) -> dict[str, Any]:
    unusual = (
        attention.group_norm,
        attention.spatial_norm,
        attention.norm_cross,
        attention.norm_q,
        attention.added_kv_proj_dim,
        attention.residual_connection or None,
    )
    if any(value is not None for value in unusual) or attention.rescale_output_factor != 1.0:
        raise VipError(
            "the UNet's cross-attention has normalisations or extra projections that C-T-S branches do not copy",
            "choose a Stable Diffusion 1.x or 2.x UNet, or branches 'transformer'",
        )
    return {
        "query_dim": attention.query_dim,
        "cross_attention_dim": attention.cross_attention_dim,
        "heads": attention.heads,
        "dim_head": attention.inner_dim // attention.heads,
        "bias": attention.use_bias,
        "out_bias": attention.to_out[0].bias is not None,
        "dropout": attention.dropout,
    }


def _make_branch(branches: Branches, spec: Any) -> nn.Module:
    if branches == "transformer":
        return Transformer2DModel(**spec)
    if branches == "key_value":
        return nn.ModuleList(
            KeyValue(item["cross_attention_dim"], item["heads"] * item["dim_head"], item["bias"]) for item in spec
        )
    return nn.ModuleList(Attention(**item) for item in spec)


def _copy_weights(branches: Branches, branch: nn.Module, own: Transformer2DModel) -> None:
    if branches == "transformer":
        branch.load_state_dict(own.state_dict())
        return
    for item, block in zip(cast(nn.ModuleList, branch), own.transformer_blocks, strict=True):
        state = block.attn2.state_dict()
        item.load_state_dict({name: state[name] for name in item.state_dict()})
