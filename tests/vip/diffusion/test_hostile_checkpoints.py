"""A checkpoint from anywhere is data: no pickle is opened, no code runs, no weight is made up."""

import json
import os
import pickle
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import VipError
from storage.models import find_model
from tests.hostile_page import compare_section
from tests.vip.diffusion.test_pipeline import make_pipe
from vip.outpaint.load import load_outpainter


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "pipeline"
    make_pipe().save_pretrained(folder)
    return folder


def weights(folder, part="unet"):
    return next((folder / part).glob("*.safetensors"))


def evil(folder):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {folder.parent / 'canary'}",)

    return pickle.dumps(Evil())


def truncated(folder):
    weights(folder).write_bytes(weights(folder).read_bytes()[:-100])


def lying(folder):
    weights(folder).write_bytes(struct.pack("<Q", 2**62) + b"{}")


def disguised(folder):
    weights(folder).write_bytes(evil(folder))


def pickled(part, name):
    def change(folder):
        data = evil(folder)
        weights(folder, part).unlink()
        (folder / part / name).write_bytes(data)

    return change


def beside(folder):
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(evil(folder))


def edited(part, change):
    def edit(folder):
        file = weights(folder, part)
        tensors = load_file(file)
        change(tensors, min(tensors))
        save_file(tensors, file, metadata={"format": "pt"})

    return edit


def larger(tensors, name):
    tensors[name] = torch.zeros([size + 1 for size in tensors[name].shape])


def config(file, **changes):
    def edit(folder):
        value = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(value | changes))

    return edit


def code(folder):
    (folder / "unet" / "evil.py").write_text(f"import os; os.system('touch {folder.parent / 'canary'}')\n")
    config("model_index.json", unet=["evil", "Evil"])(folder)


# kind -> (what is done to a good checkpoint, what the error says; empty: it loads)
KINDS = {
    "safetensors cut short": (truncated, "is no whole safetensors file"),
    "safetensors of zero bytes": (lambda folder: weights(folder).write_bytes(b""), "is no whole safetensors file"),
    "header that claims 4 exabytes": (lying, "is no whole safetensors file"),
    "pickle called .safetensors": (disguised, "is no whole safetensors file"),
    "pickle instead of the UNet's weights": (pickled("unet", "diffusion_pytorch_model.bin"), "is pickle"),
    "pickle instead of the text encoder's": (pickled("text_encoder", "pytorch_model.bin"), "is pickle"),
    "pickle beside good weights": (beside, ""),
    "wrong shape, UNet": (edited("unet", larger), "is no pipeline of ours"),
    "wrong shape, control": (edited("control", larger), "is no pipeline of ours"),
    "wrong shape, text encoder": (edited("text_encoder", larger), "is no pipeline of ours"),
    "missing weight, UNet": (edited("unet", lambda tensors, name: tensors.pop(name)), "would be made up"),
    "missing weight, VAE": (edited("vae", lambda tensors, name: tensors.pop(name)), "would be made up"),
    "missing weight, control": (edited("control", lambda tensors, name: tensors.pop(name)), "would be made up"),
    "missing weight, text encoder": (
        edited("text_encoder", lambda tensors, name: tensors.pop(name)),
        "would be made up",
    ),
    "weight that is not a number": (
        edited("unet", lambda tensors, name: tensors[name].fill_(torch.nan)),
        "is not finite",
    ),
    "infinite weight": (edited("text_encoder", lambda tensors, name: tensors[name].fill_(torch.inf)), "is not finite"),
    "weight that nothing asks for": (edited("unet", lambda tensors, _: tensors.update(evil=torch.zeros(1))), ""),
    "index that names a module of Python": (config("model_index.json", unet=["subprocess", "Popen"]), "is not trusted"),
    "index that names code in the folder": (code, "is not trusted"),
    "index that climbs": (config("model_index.json", unet=["diffusers", "../../x"]), "is no pipeline of ours"),
    "index of another class": (config("model_index.json", _class_name="Evil"), ""),
    "index that is no JSON": (lambda folder: (folder / "model_index.json").write_text("{"), "cannot be read"),
    "index that is a list": (lambda folder: (folder / "model_index.json").write_text("[]"), "cannot be read"),
    "index nested 100,000 deep": (
        lambda folder: (folder / "model_index.json").write_text("[" * 10**5),
        "cannot be read",
    ),
    "config of 2^40 channels": (
        config("unet/config.json", block_out_channels=[16, 32, 2**40]),
        "is no pipeline of ours",
    ),
    "config of other widths": (config("unet/config.json", cross_attention_dim=48), "is no pipeline of ours"),
    "config that asks for remote code": (config("text_encoder/config.json", auto_map={"AutoModel": "evil.Evil"}), ""),
    "control that was trained on no view": (config("control/config.json", view=["wide", 64]), "the view of control is"),
    "control of a view of no pixels": (config("control/config.json", view=[0, 64]), "the view of control is"),
    "control of 2^40 levels": (config("control/config.json", levels=2**40), "control has branches at the levels"),
    "control without branches": (config("control/config.json", blocks=[]), "control has branches at the levels []"),
    "control with another mask mode": (
        config("control/config.json", mask_mode="evil"),
        "mask_mode of control is 'evil'",
    ),
    "control with another prompt style": (
        config("control/config.json", prompt_style="evil"),
        "prompt_style of control is 'evil'",
    ),
    "part that is not there": (lambda folder: shutil.rmtree(folder / "unet"), "is no pipeline of ours"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_loads_whole_or_is_refused_in_one_line(kind, good, tmp_path):
    folder = tmp_path / "pipeline"
    shutil.copytree(good, folder)
    change, wanted = KINDS[kind]
    change(folder)
    if wanted:
        with pytest.raises(VipError) as caught:
            load_outpainter(folder)
        line = str(caught.value)
        assert wanted in line and str(folder) in line and "\n" not in line
    else:
        assert load_outpainter(folder).unet is not None
    assert not (tmp_path / "canary").exists()


def test_a_captioner_with_pickle_only_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(evil(tmp_path))
    with pytest.raises(VipError, match=r"pytorch_model.bin, which is pickle"):
        find_model(str(tmp_path), "captioner")


@pytest.mark.parametrize("name", ["foo/bar baz", "foo/-bar", "foo/" + "b" * 200])
def test_a_model_that_no_hub_could_hold_is_refused_in_one_line(name):
    with pytest.raises(VipError, match="neither a local folder nor to be had from the hub"):
        find_model(name, "captioner")


def test_the_page_in_the_docs_is_what_the_tests_show():
    said = {kind: f"refused: {wanted}" if wanted else "loads" for kind, (_, wanted) in KINDS.items()}
    text = (
        "What comes of a checkpoint or base in a local folder. A refusal is one line that names the file,\n"
        "no code of the folder runs, and no weight is made up."
    )
    compare_section("Checkpoints", text, said)
