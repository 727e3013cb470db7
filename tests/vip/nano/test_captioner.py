import numpy as np
import pytest

from schemas.region import CentreRegion
from vip.nano.answers import ATTRIBUTES, make_example
from vip.nano.instructions import BLANK, blank, kept_box
from vip.nano.regions import mask_of
from vip.nano.scene import make_scene
from vip.nano.truth import truth
from vip.nano.words import Tally, roles, split_caption


def test_the_central_half_in_sixteenths():
    assert kept_box(mask_of(CentreRegion(keep=0.5))) == "4 4 12 12"


def test_blanking_hides_one_part_only():
    mask = mask_of(CentreRegion(keep=0.5))
    pixels = np.full((64, 64, 3), 7, np.uint8)
    assert (blank(pixels, mask, part=1)[mask == 1] == BLANK).all() and (
        blank(pixels, mask, part=1)[mask == 0] == 7
    ).all()
    assert (blank(pixels, mask, part=0)[mask == 0] == BLANK).all() and (
        blank(pixels, mask, part=0)[mask == 1] == 7
    ).all()


def test_examples_are_repeatable_and_cover_every_strategy():
    examples = [make_example(seed) for seed in range(120)]
    assert {e.strategy for e in examples} == {"joint", "split_centre", "split_surrounding", "imagine"}
    again = [make_example(seed) for seed in range(120)]
    assert [(e.prompt, e.answer) for e in examples] == [(e.prompt, e.answer) for e in again]
    assert all(len(e.labels) == len(ATTRIBUTES) for e in examples)


def test_imagined_surroundings_hold_the_keywords_asked_for():
    asked = [e for e in map(make_example, range(600)) if "Use:" in e.prompt]
    assert len(asked) > 30
    for example in asked:
        wanted = example.prompt.split("Use: ")[1].rstrip(".").split(", ")
        phrases = split_caption(example.answer)[1]
        for keyword in wanted:
            assert any(set(keyword.split()) <= set(phrase.split()) for phrase in phrases), (
                example.prompt,
                example.answer,
            )


def test_words_are_scored_by_what_they_say():
    facts = truth(make_scene(2), mask_of(CentreRegion(keep=0.5)))
    centre, surrounding = split_caption(facts.text)
    assert (tuple(centre), tuple(surrounding)) == (facts.centre, facts.surrounding)
    perfect, poor = Tally(), Tally()
    perfect.add([(facts.centre, centre), (facts.surrounding, surrounding)])
    assert perfect.accuracy == 1 and perfect.whole == 1
    poor.add([(["red house"], ["blue house"]), (["rain"], ["rain", "kite above"])])
    assert (poor.told, poor.right, poor.invented, poor.wholly) == (3, 2, 1, 0)


@pytest.mark.parametrize(
    "text", ["", "Center: a", "Center: ; Surrounding: b", "Center: a; Surrounding: b; Surrounding: c"]
)
def test_a_caption_of_another_form_is_none(text):
    assert split_caption(text) is None


def test_roles_of_phrases():
    assert roles(["red house", "rain", "blue flowers left", "clouds above"]) == {
        "subject colour": "red",
        "subject kind": "house",
        "weather": "rain",
        "left colour": "blue",
        "left kind": "flowers",
        "above kind": "clouds",
    }
