"""The branches' attention: the same values whichever way is less work, and once a picture where texts stay the same."""

import pytest
import torch

from tests.vip.diffusion.test_control import controlled, inputs
from vip.diffusion import attention
from vip.diffusion.attention import KeyValue


def test_bringing_the_queries_to_the_text_is_the_same_attention_and_has_the_same_gradients():
    found = []
    for way in ("there", "back"):
        torch.manual_seed(0)
        branch = KeyValue(24, 32, bias=False).double()
        query, text = torch.randn(2, 5, 32, dtype=torch.double), torch.randn(2, 77, 24, dtype=torch.double)
        query.requires_grad_(), text.requires_grad_()
        if way == "there":
            out = attention._attend_unprojected(query, branch, text, 4)
        else:
            out = attention._attend(query, branch.to_k(text), branch.to_v(text), 4)
        (out**2).sum().backward()
        found.append([out, query.grad, text.grad, branch.to_k.weight.grad, branch.to_v.weight.grad])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_the_way_of_less_work_is_taken(monkeypatch):
    taken = []
    honest = attention._attend_unprojected
    monkeypatch.setattr(attention, "_attend_unprojected", lambda *args: taken.append(args[0].shape[1]) or honest(*args))
    with torch.no_grad():
        controlled("key_value", a=0.3)(*inputs(tokens=77))
    assert taken and max(taken) < 16  # the few positions of the lowest level; the others project the text


@pytest.mark.parametrize("branches", ["cross_attention", "key_value"])
@torch.no_grad()
def test_calls_with_the_same_texts_project_them_once(branches):
    model, kept, runs = controlled(branches, a=0.3), {}, []
    arguments = inputs(tokens=77)
    for name, module in model.control.named_modules():
        if name.endswith(("to_k", "to_v")):
            module.register_forward_hook(lambda *_, name=name: runs.append(name))
    expected = model(*arguments)
    runs.clear()
    for _ in range(3):
        torch.testing.assert_close(model(*arguments, kept), expected, rtol=1e-4, atol=1e-5)
    assert runs and len(runs) == len(set(runs)) == 2 * len(kept)
