import copy

import pytest
import torch
from torch.nn import functional as F

from schemas.errors import VipError
from schemas.region import CentreRegion, View
from tests.vip.diffusion.conftest import make_unet
from vip.diffusion.control import CTSControl
from vip.diffusion.levels import plan_levels
from vip.diffusion.unet import ControlledUNet
from vip.regions.mask import render_mask

BRANCHES = ["cross_attention", "key_value", "transformer"]


def inputs(batch=2, size=16, seed=0, keep=0.5, tokens=7):
    generator = torch.Generator().manual_seed(seed)
    view = View(width=size * 4, height=size * 4)
    mask = torch.from_numpy(render_mask(CentreRegion(keep=keep), view)).float().expand(batch, 1, -1, -1)
    sample = torch.randn(batch, 9, size, size, generator=generator)
    texts = [torch.randn(batch, tokens, 24, generator=generator) for _ in range(3)]
    return sample, torch.tensor([10, 500][:batch]), *texts, plan_levels(mask, (size, size), 3)


def controlled(branches, a=None, seed=0, **options):
    unet = make_unet(seed)
    control = CTSControl.from_unet(unet, branches=branches, **options)
    if a is not None:
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in control.branch_parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator) * parameter.std().nan_to_num(0.1)
            for place, (_, parameter) in enumerate(control.fusion()):
                parameter.fill_(a + 0.1 * place)
    return ControlledUNet(unet, control.eval())


@pytest.mark.parametrize("branches", BRANCHES)
@torch.no_grad()
def test_a_fresh_model_is_its_base_bit_for_bit(branches):
    sample, timestep, total, center, surrounding, levels = inputs()
    base = make_unet()(sample, timestep, total).sample
    assert torch.equal(controlled(branches)(sample, timestep, total, center, surrounding, levels), base)


@pytest.mark.parametrize("branches", BRANCHES)
def test_the_unet_stays_stock_and_can_be_detached(branches):
    model = controlled(branches, a=0.5)
    sample, timestep, total, *_ = inputs()
    plain = make_unet()
    assert model.unet.state_dict().keys() == plain.state_dict().keys()
    with pytest.raises((ValueError, TypeError, KeyError)):
        model.unet(sample, timestep, total)
    model.control.detach(model.unet)
    with torch.no_grad():
        assert torch.equal(model.unet(sample, timestep, total).sample, plain(sample, timestep, total).sample)


@pytest.mark.parametrize("branches", BRANCHES)
@torch.no_grad()
def test_each_branch_reads_its_own_text(branches):
    model = controlled(branches, a=0.5)
    sample, timestep, total, center, surrounding, levels = inputs()
    right = model(sample, timestep, total, center, surrounding, levels)
    assert not torch.allclose(right, model(sample, timestep, total, surrounding, center, levels), atol=1e-4)
    # The defect of the released inference code: both regional texts replaced by the total one.
    assert not torch.allclose(right, model(sample, timestep, total, total, total, levels), atol=1e-4)


@pytest.mark.parametrize("branches", BRANCHES)
def test_training_moves_the_fusion_first_and_then_the_branches(branches):
    model = controlled(branches).train()
    arguments = inputs()
    target = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    before = copy.deepcopy(model.control.state_dict())
    optimizer = torch.optim.AdamW(
        [
            {"params": [a for _, a in model.control.fusion()], "lr": 1e-2, "weight_decay": 0.0},
            {"params": list(model.control.branch_parameters()), "lr": 1e-3},
        ]
    )
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(model(*arguments), target).backward()
        optimizer.step()
    moved = {name for name, value in model.control.state_dict().items() if not torch.equal(value, before[name])}
    assert all(abs(a.item()) > 1e-3 for _, a in model.control.fusion())
    for half in ("attentions_center", "attentions_surrounding"):
        assert any(half in name and "to_k" in name for name in moved)


@pytest.mark.parametrize("branches", BRANCHES)
def test_checkpointing_gives_the_same_gradients(branches):
    gradients = []
    for checkpointing in (False, True):
        model = controlled(branches, a=0.3).train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        F.mse_loss(model(*inputs()), torch.zeros(2, 4, 16, 16)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(*gradients, strict=True) if one is not None)
    assert all(gradient is not None for gradient in gradients[1])


@pytest.mark.parametrize("branches", BRANCHES)
def test_checkpointing_covers_the_branches(branches):
    """With it on, a branch runs once forward and once more for the backward pass, instead of keeping what it made."""
    for checkpointing, runs in ((False, 1), (True, 2)):
        model = controlled(branches, a=0.3).train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        seen = []
        for name, module in model.control.named_modules():
            if name.endswith("to_k") and "attn1" not in name:
                module.register_forward_hook(lambda *_, name=name, seen=seen: seen.append(name))
        F.mse_loss(model(*inputs()), torch.zeros(2, 4, 16, 16)).backward()
        assert seen and {seen.count(name) for name in seen} == {runs}


@pytest.mark.parametrize("branches", BRANCHES)
@torch.no_grad()
def test_bf16_autocast_and_channels_last_stay_close(branches):
    model = controlled(branches, a=0.4)
    sample, *rest = inputs()
    plain = model(sample, *rest)
    model.to(memory_format=torch.channels_last)
    assert torch.allclose(model(sample.to(memory_format=torch.channels_last), *rest), plain, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(sample, *rest)
    assert half.dtype == torch.bfloat16
    assert (half.float() - plain).abs().mean() < 0.05 * plain.abs().mean()


@pytest.mark.parametrize("branches", BRANCHES)
@torch.no_grad()
def test_branches_round_trip_through_save_pretrained(branches, tmp_path):
    model = controlled(branches, a=0.4, mask_mode="nearest")
    model.control.save_pretrained(tmp_path)
    again = CTSControl.from_pretrained(tmp_path)
    arguments = inputs()
    assert again.config["branches"] == branches and again.config["mask_mode"] == "nearest"
    assert torch.equal(ControlledUNet(make_unet(), again.eval())(*arguments), model(*arguments))


def test_branches_of_another_unet_are_refused():
    control = CTSControl.from_unet(make_unet())
    with pytest.raises(VipError, match="do not fit block"):
        control.attach(make_unet(block_out_channels=(16, 32, 48)))


@torch.no_grad()
def test_sizes_that_do_not_halve_evenly_work():
    model = controlled("cross_attention", a=0.4)
    sample, timestep, total, center, surrounding, _ = inputs()
    sample = sample[..., :15, :13].contiguous()
    mask = torch.ones(2, 1, 60, 52)
    mask[..., 20:40, 20:32] = 0
    out = model(sample, timestep, total, center, surrounding, plan_levels(mask, (15, 13), 3))
    assert out.shape == (2, 4, 15, 13)


def reference(model, level_masks, sample, timestep, total, center, surrounding):
    """An independent reading of the formula: full branches everywhere, dense softmax attention, no sharing."""
    unet = copy.deepcopy(model.unet)
    fresh = make_unet()
    fresh.load_state_dict(unet.state_dict())
    unet = fresh.to(sample.dtype)
    control = model.control

    def attend(q, k, v, heads):
        split = lambda x: x.reshape(x.shape[0], x.shape[1], heads, -1).permute(0, 2, 1, 3)  # noqa: E731
        q, k, v = split(q), split(k), split(v)
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        return (weights @ v).permute(0, 2, 1, 3).reshape(q.shape[0], q.shape[2], -1)

    def cross(attn, part, h, text, kind):
        own = attn if kind == "key_value" else part
        return own.to_out[0](attend(own.to_q(h), part.to_k(text), part.to_v(text), attn.heads))

    for spec in control.config["blocks"]:
        block = unet.get_submodule(spec["path"])
        made = control.block(spec["path"])
        m = level_masks[spec["level"]].to(sample.dtype)
        for place, transformer in enumerate(block.attentions):
            c, s, a = made.attentions_center[place], made.attentions_surrounding[place], made.a
            if control.config["branches"] == "transformer":

                def hook(_, args, output, c=c, s=s, a=a, m=m):
                    whole = (1 - m) * c(args[0], center).sample + m * s(args[0], surrounding).sample
                    return ((1 - a) * output[0] + a * whole,)

                transformer.register_forward_hook(hook)
                continue
            for inner, ci, si in zip(transformer.transformer_blocks, c, s, strict=True):

                def hook(attn, args, output, ci=ci, si=si, a=a, m=m):
                    flat = m.flatten(2).transpose(1, 2)
                    kind = control.config["branches"]
                    e = (1 - flat) * cross(attn, ci, args[0], center, kind) + flat * cross(
                        attn, si, args[0], surrounding, kind
                    )
                    return (1 - a) * output + a * e

                inner.attn2.register_forward_hook(hook)
    return unet(sample, timestep, total).sample


@pytest.mark.parametrize(("keep", "tokens"), [(0.5, 7), (0.6, 7), (0.6, 77)])
@pytest.mark.parametrize("branches", BRANCHES)
@torch.no_grad()
def test_the_output_is_the_formula_in_float64(branches, keep, tokens):
    model = controlled(branches, a=0.3)
    sample, timestep, total, center, surrounding, levels = inputs(keep=keep, tokens=tokens)
    result = model(sample, timestep, total, center, surrounding, levels)
    model.double()
    wide = [value.double() for value in (total, center, surrounding)]
    expected = reference(model, [level.mask for level in levels], sample.double(), timestep, *wide)
    exact = model(sample.double(), timestep, *wide, levels)
    assert torch.allclose(exact, expected, atol=1e-7)
    assert torch.allclose(result.double(), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("branches", BRANCHES)
@torch.no_grad()
def test_compiles_without_graph_breaks_and_twice_at_most_whatever_the_masks(branches):
    torch._dynamo.reset()
    model = controlled(branches, a=0.4)
    sample, timestep, *texts, _ = inputs(tokens=77)
    # Soft and hard, large and small: first for one shape, then for any.
    masks = [torch.zeros(2, 1, 64, 64) for _ in range(6)]
    for mask, (top, left) in zip(masks, [(32, 0), (3, 5), (41, 13), (0, 16), (6, 50), (24, 24)], strict=True):
        mask[..., top:, left:] = 1
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        for mask in masks:
            levels = plan_levels(mask, (16, 16), 3, uniform=True)
            expected = model(sample, timestep, *texts, plan_levels(mask, (16, 16), 3))
            assert torch.allclose(compiled(sample, timestep, *texts, levels), expected, atol=1e-5)
