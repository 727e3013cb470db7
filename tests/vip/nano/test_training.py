import itertools

import pytest
import torch
from torch import nn

from schemas.region import CentreRegion
from vip.nano.loop import Recipe, Training
from vip.nano.regions import mask_of
from vip.nano.scene import make_scene
from vip.nano.truth import truth
from vip.nano.vocabulary import COLOURED, COLOURS, SIDES, THINGS, WORDS


@pytest.fixture(autouse=True)
def _as_it_was():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


def _run(folder, stops):
    for stop in stops:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        training = Training(model, Recipe(steps=9, learning_rate=0.01, warmup=2), folder)

        def loss(step, model=model):
            x = torch.randn(16, 4)
            return (model(x) - x.sum(1, keepdim=True)).square().mean(), {"seen": float(step)}

        training.run(loss, until=stop, save_every=2, log_every=3)
    training.use_average()
    return [p.detach().clone() for p in training.model.parameters()], training.curve


def test_training_resumed_twice_is_bit_identical(tmp_path):
    straight, curve = _run(tmp_path / "a", [9])
    broken, other = _run(tmp_path / "b", [3, 6, 9])
    assert all(torch.equal(one, two) for one, two in zip(straight, broken, strict=True))
    assert curve == other and len(curve) == 3


def test_the_same_seed_gives_the_same_curve(tmp_path):
    assert _run(tmp_path / "a", [9])[1] == _run(tmp_path / "b", [9])[1]


def test_every_word_is_one_clip_token_and_the_longest_caption_fits():
    from vip.nano.prompts import build_tokenizer

    tokenizer = build_tokenizer()
    assert [word for word in WORDS if len(tokenizer.tokenize(word)) != 1] == []
    # The longest caption there can be: a coloured subject and a coloured thing on every side.
    colour = next(iter(COLOURS))
    things = ", ".join(f"{colour} {next(k for k in THINGS[side] if k in COLOURED)} {side}" for side in SIDES)
    longest = f"Center: {colour} house; Surrounding: meadow, dawn, rain, {things}"
    assert len(tokenizer(longest)["input_ids"]) <= 77
    texts = [truth(make_scene(seed), mask_of(CentreRegion())).text for seed in range(200)]
    assert max(len(ids) for ids in tokenizer(texts)["input_ids"]) <= len(tokenizer(longest)["input_ids"])
    assert all(tokenizer.unk_token_id not in ids[1:-1] for ids in tokenizer(texts)["input_ids"][:50])


def test_prompts_of_the_base_are_varied_but_repeatable():
    import numpy as np

    from vip.nano.prompts import NOTHING, vary

    facts = truth(make_scene(4), mask_of(CentreRegion()))
    first, again = ([vary(facts, np.random.Generator(np.random.PCG64(s))) for s in range(300)] for _ in range(2))
    assert first == again
    assert {"", NOTHING, facts.text} <= set(first)
    assert 0.05 < sum(prompt in ("", NOTHING) for prompt in first) / 300 < 0.18
    assert len(list(itertools.islice(set(first), 5))) == 5


def test_a_prompt_names_what_it_says_and_nothing_else():
    from vip.nano.answers import ATTRIBUTES, labels_of
    from vip.nano.text_encoder import named

    for seed in range(50):
        scene = make_scene(seed)
        assert named(truth(scene, mask_of(CentreRegion())).text) == labels_of(scene)
    columns = list(ATTRIBUTES)
    found = dict(zip(columns, named("Surrounding: blue flowers left, rain"), strict=True))
    assert {name for name, label in found.items() if label} == {"left kind", "left colour", "weather"}
    assert COLOURS and ATTRIBUTES["left colour"][found["left colour"] - 1] == "blue"
    assert not any(named("")) and not any(named("Center:; Surrounding:"))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["autoencoder", "text_encoder", "probe", "captioner", "base"])
def test_every_part_gives_the_same_curve_twice(part, tmp_path, monkeypatch):
    from vip.nano import autoencoder, base, captioner, probe, text_encoder
    from vip.nano.loop import prepare
    from vip.nano.prompts import build_tokenizer

    monkeypatch.setattr(base, "CHUNK", 32)
    recipe = Recipe(steps=3, learning_rate=1e-3, warmup=2)

    def curve(folder):
        match part:
            case "autoencoder":
                return autoencoder.train(folder, recipe).curve
            case "text_encoder":
                return text_encoder.train(folder, recipe).curve
            case "probe":
                return probe.train(folder, lambda pixels: pixels, recipe, rebuilt_scenes=64).curve
            case "captioner":
                return captioner.train(folder, recipe).curve
            case _:
                words = text_encoder.build(build_tokenizer())
                return base.train(folder, autoencoder.build().eval(), words, recipe).curve

    prepare(1)
    try:
        first = curve(tmp_path / "a")
        assert first and first == curve(tmp_path / "b")
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)
