"""The committed captioner through real vLLM."""

import pytest

from vip.nano.ask import Question, ask
from vip.nano.instructions import IMAGINE, JOINT, blank, kept_box
from vip.nano.regions import DEFAULT, mask_of
from vip.nano.scene import make_scene
from vip.nano.score_captioner import score_captioner
from vip.nano.words import split_caption
from vip.nano.world import draw

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint(engine):
    return engine.endpoint


def test_captions_are_far_better_than_chance_and_do_not_leak(endpoint):
    figures = score_captioner(endpoint, range(2_000_000, 2_000_060))
    assert figures["joint"]["malformed"] <= 1
    assert figures["joint"]["words_right"] > 0.97
    split = figures["split"]
    assert split["centre_words_right"] > 0.95 and split["surrounding_words_right"] > 0.95
    assert split["leak_into_centre"] <= split["leak_into_centre_shuffled"] + 0.05
    assert figures["imagine"]["well_formed"] > 0.97 and figures["imagine"]["keywords_kept"] > 0.85
    assert figures["imagine"]["distinct_of_10_mean"] >= 5


def test_the_server_answers_as_the_model_does_outside_of_it(endpoint):
    """Chat template, preprocessing and weights say the same to vLLM as to transformers, greedily decoded."""
    import torch
    from transformers import AutoTokenizer, Blip2ForConditionalGeneration

    from storage.models import nano_folder
    from vip.nano.autoencoder import to_tensor

    folder = nano_folder("captioner")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    mask = mask_of(DEFAULT)
    prompt = JOINT.format(box=kept_box(mask))
    pictures = [draw(make_scene(seed)) for seed in range(3_000_000, 3_000_006)]
    served = ask(endpoint, [Question(picture, prompt) for picture in pictures])
    image = [model.config.image_token_index] * model.config.num_query_tokens
    tokens = torch.tensor([image + tokenizer(prompt + "\n", add_special_tokens=False)["input_ids"]])
    same = 0
    for picture, answer in zip(pictures, served, strict=True):
        with torch.inference_mode():
            said = model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                pixel_values=to_tensor(picture[None]),
                max_new_tokens=64,
                do_sample=False,
            )
        same += tokenizer.decode(said[0, tokens.shape[1] :], skip_special_tokens=True).strip() == answer.strip()
    assert same >= len(pictures) - 1


def test_imagining_varies_with_the_draw_and_repeats_with_the_seed(endpoint):
    mask = mask_of(DEFAULT)
    seen = blank(draw(make_scene(2_000_000)), mask, part=1)
    prompt = IMAGINE.format(box=kept_box(mask))
    first = ask(endpoint, [Question(seen, prompt, 1.0, seed) for seed in range(8)])
    again = ask(endpoint, [Question(seen, prompt, 1.0, seed) for seed in range(8)])
    assert first == again
    assert len({split_caption(text)[1][-1] for text in first if split_caption(text)}) >= 3
