"""Measuring networks: Inception v3, CLIP and AlexNet from weights given by path, each as others compute it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from transformers import CLIPConfig, CLIPModel

from schemas.errors import VipError
from schemas.evaluate_config import EvaluateConfig
from schemas.tables import METRICS
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.vip.diffusion.conftest import make_tokenizer
from tests.vip.evaluation.inception_weights import made_weights, picture
from tests.vip.evaluation.world import make_world
from vip.evaluation.clip_score import ClipScore
from vip.evaluation.evaluate import evaluate
from vip.evaluation.lpips import Lpips, alexnet_features
from vip.evaluation.networks import load_network
from vip.evaluation.scorer import Shown
from vip.evaluation.weights import ORIGIN, convert, read_weights
from vip.report.words import metric_label

# What torch-fidelity 0.4.0 computes of `picture()` with `made_weights()` (its own resize replaced by pytorch-fid's and
# its (x - 128) / 128 by 2 x / 255 - 1): the first features and logits, and the sum of each.
FEATURES, FEATURES_SUM = [0.0159423, 0.0011844, 0.0, 0.0], 117.87751
LOGITS, LOGITS_NORM = [-0.1614839, -0.2594553, 0.0700080, 0.2841380], 6.3937030


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    made_weights(path)
    return path


def make_clip(folder, size=32):
    tokenizer = make_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"image_size": size, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text | small, vision_config=vision | small, projection_dim=16)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


def make_alexnet(path, seed=0):
    torch.manual_seed(seed)
    state = {f"features.{name}": value for name, value in alexnet_features().state_dict().items()}
    save_file({**state, "classifier.1.weight": torch.zeros(2, 2)}, path)
    return path


def test_inception_computes_what_torch_fidelity_computes(inception):
    network = load_network("inception-v3", str(inception))
    found = network(picture())
    assert found.pooled.shape == (1, 2048) and found.logits.shape == (1, 1008)
    np.testing.assert_allclose(found.pooled[0, :4], FEATURES, atol=1e-5)
    np.testing.assert_allclose(found.logits[0, :4], LOGITS, atol=1e-5)
    assert found.pooled.sum() == pytest.approx(FEATURES_SUM, rel=1e-4)
    assert np.linalg.norm(found.logits) == pytest.approx(LOGITS_NORM, rel=1e-4)


def test_only_the_true_weights_are_called_fid(inception, tmp_path):
    assert load_network("inception-v3", str(inception)).name == "inception-v3"
    made_weights(tmp_path / "port.safetensors", {ORIGIN: "6726825d" + "0" * 56})
    network = load_network("inception-v3", str(tmp_path / "port.safetensors"))
    assert network.name == "inception-v3-fid"
    row = {"metric": "frechet_distance", "network": f"{network.name}@0123"}
    assert metric_label(row) == "FID"
    assert "inception-v3 features" in metric_label(row | {"network": "inception-v3@0123"})


def test_weights_that_cannot_be_used_say_what_to_do(tmp_path):
    with pytest.raises(VipError, match=r"name a \.safetensors file as network_weights"):
        load_network("inception-v3")
    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(VipError, match=r"give a .safetensors file; from a known pickle"):
        load_network("inception-v3", str(tmp_path / "weights.pth"))
    with pytest.raises(VipError, match="has the unknown hash"):
        convert(tmp_path / "weights.pth", tmp_path / "out.safetensors")
    make_alexnet(tmp_path / "alexnet.safetensors")
    with pytest.raises(VipError, match="is no Inception v3 of FID"):
        load_network("inception-v3", str(tmp_path / "alexnet.safetensors"))
    with pytest.raises(VipError, match="is no CLIP model"):
        ClipScore(tmp_path)


def test_a_known_pickle_is_converted_and_says_where_it_comes_from(tmp_path, monkeypatch):
    state = {"features.0.weight": torch.ones(2, 3)}
    torch.save(state, tmp_path / "known.pth")
    from storage.store import sha256_file

    digest = sha256_file(tmp_path / "known.pth")
    monkeypatch.setitem(__import__("vip.evaluation.weights", fromlist=["KNOWN"]).KNOWN, digest[:8], "known.pth")
    convert(tmp_path / "known.pth", tmp_path / "out.safetensors")
    read, origin = read_weights(tmp_path / "out.safetensors")
    assert origin == digest and torch.equal(read["features.0.weight"], state["features.0.weight"])


def test_clip_score_is_that_of_transformers(tmp_path):
    folder = make_clip(tmp_path / "tiny-clip")
    score = ClipScore(folder)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    shown = Shown(pictures, pictures, pictures, np.zeros((2, 32, 32), np.uint8), [("a cat", "the sea"), ("", "sky")])
    shown.masks[:, 16:] = 1
    found = score(shown)
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), make_tokenizer()
    values = torch.from_numpy(pictures.astype(np.float32) / 255).permute(0, 3, 1, 2)
    mean, deviation = (torch.tensor(part).view(1, 3, 1, 1) for part in MEAN_AND_DEVIATION)
    with torch.no_grad():
        out = model(
            **tokenizer(["a cat, the sea", "sky"], padding=True, return_tensors="pt"),
            pixel_values=(values - mean) / deviation,
        )
    expected = (100 * (out.text_embeds * out.image_embeds).sum(-1)).clamp(min=0)
    assert found["clip_score"] == pytest.approx(expected.tolist(), abs=1e-3)
    assert found["clip_score_centre"][1] is None  # nothing was said of it


def test_clip_weights_that_are_not_there_are_not_made_up(tmp_path):
    folder = make_clip(tmp_path / "tiny-clip")
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"], state["text_projection.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(VipError, match=r"lacks weights of CLIP: text_projection.weight and 1 more; give the folder"):
        ClipScore(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{oops", "is no JSON"),
        ("[1]", "holds no settings of a preprocessor"),
        ('{"image_mean": 0.5}', "image_mean is not three numbers"),
    ],
)
def test_a_broken_preprocessor_is_named_in_one_line(tmp_path, text, says):
    folder = make_clip(tmp_path / "tiny-clip")
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(VipError, match=rf"preprocessor_config\.json:? {says}"):
        ClipScore(folder)


MEAN_AND_DEVIATION = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def test_each_part_is_judged_by_its_own_pixels_and_text(tmp_path):
    score = ClipScore(make_clip(tmp_path / "tiny-clip"))
    rng = np.random.default_rng(1)
    one = rng.integers(0, 256, (1, 48, 64, 3), np.uint8)
    mask = np.ones((1, 48, 64), np.uint8)
    mask[:, 12:36, 16:48] = 0
    other = np.where(mask[..., None] == 1, rng.integers(0, 256, one.shape, np.uint8), one)

    def judge(pixels, center="a cat", around="the sea"):
        return {
            name: value[0] for name, value in score(Shown(pixels, pixels, pixels, mask, [(center, around)])).items()
        }

    first, second = judge(one), judge(other)
    assert first["clip_score_centre"] == second["clip_score_centre"]
    assert first["clip_score_surrounding"] != second["clip_score_surrounding"]
    third = judge(one, around="a red house")
    assert first["clip_score_centre"] == third["clip_score_centre"]
    assert first["clip_score_surrounding"] != third["clip_score_surrounding"]


def test_lpips_is_that_of_torchmetrics(tmp_path, monkeypatch):
    ours = Lpips(make_alexnet(tmp_path / "alexnet.safetensors"))
    assert ours.name == "lpips-alex-other-weights"
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_: ours.features)
    theirs = torchmetrics_lpips._NoTrainLpips(net="alex")
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(3, 3, 64, 72, generator=generator) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        torch.testing.assert_close(ours.distance(first, second), theirs(first, second).flatten(), rtol=1e-5, atol=1e-7)


def test_lpips_looks_at_the_known_part_only(tmp_path):
    lpips = Lpips(make_alexnet(tmp_path / "alexnet.safetensors"))
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    mask = np.ones((2, 64, 64), np.uint8)
    mask[:, 16:48, 16:48] = 0
    made = np.where(mask[..., None] == 1, np.uint8(0), real)
    made[1, 20:40, 20:40] = 255
    same, moved = lpips(Shown(real, real, made, mask, [("", "")] * 2))["lpips_known_unpasted"]
    assert same == 0 and moved > 1e-4
    small = Shown(real[:, :32, :32], real, made[:, :32, :32], mask[:, :32, :32], [("", "")] * 2)
    assert lpips(small)["lpips_known_unpasted"] == [None, None]


def test_an_exam_with_scorers_keeps_what_they_said_and_names_them(tmp_path, monkeypatch):
    store = ArtifactStore(tmp_path / "root")
    dataset, prompts, checkpoint = make_world(store, tmp_path / "pictures", count=12)
    plain = EvaluateConfig(settings=("oracle", "control:noise"), steps=1, images=3, resamples=100, floor=False)
    scored = plain.model_copy(
        update={
            "clip": str(make_clip(tmp_path / "tiny-clip")),
            "lpips": str(make_alexnet(tmp_path / "alexnet.safetensors")),
        }
    )
    without = evaluate(store, plain, checkpoint, dataset, prompts)
    evaluation = evaluate(store, scored, checkpoint, dataset, prompts)
    assert "scorers" not in without.params and without.key != evaluation.key
    rows = {
        (row["metric"], row["setting"]): row
        for row in read_table(store.read(evaluation, "metrics.parquet"), METRICS).to_pylist()
    }
    assert rows["clip_score", "oracle"]["network"].startswith("tiny-clip@")
    assert rows["lpips_known_unpasted", "oracle"]["n"] == 3
    assert ("clip_score", "control:noise") not in rows  # it was told nothing
    monkeypatch.setattr(ClipScore, "__call__", None)
    monkeypatch.setattr(Lpips, "__call__", None)
    other = evaluate(store, scored.model_copy(update={"resamples": 101}), checkpoint, dataset, prompts)
    assert other.key != evaluation.key  # measured anew, from what the scorers had said


def test_weights_that_no_network_would_read_are_refused():
    with pytest.raises(ValueError, match="efficientnet-lite0 has its own weights; network_weights go with"):
        EvaluateConfig(network_weights="inception.safetensors")
    assert EvaluateConfig(network="inception-v3", network_weights="inception.safetensors").network_weights
