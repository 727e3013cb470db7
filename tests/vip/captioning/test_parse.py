"""Reading answers: named fields, typed reasons, nothing cut in silence."""

import pytest

from tests.vip.captioning.helpers import make_spec
from vip.captioning.parse import Halves, Reason, Reject, read_answer, repetition


@pytest.fixture
def read(spec, tokenizer):
    json_spec = make_spec(tokenizer, parser="json")

    def read(text, part="joint", finish_reason="stop", error=None, parser="keywords"):
        return read_answer(json_spec if parser == "json" else spec, part, text, finish_reason, error)

    return read


@pytest.mark.parametrize(
    ("text", "centre", "surrounding"),
    [
        ("Center: wolf, fur; Surrounding: forest, snow", "wolf, fur", "forest, snow"),
        ("Surrounding: forest; Center: wolf", "wolf", "forest"),
        ("CENTRE: red-haired woman;\nSurroundings: half-timbered house.", "red-haired woman", "half-timbered house."),
        ("Center: a; b; Surrounding: c; d", "a; b", "c; d"),
        ('Center: sign saying "I\'m sorry"; Surrounding: street', 'sign saying "I\'m sorry"', "street"),
        ("Center: loup, forêt; Surrounding: 狼", "loup, forêt", "狼"),
    ],
)
def test_what_is_well_formed_is_kept_whole(read, text, centre, surrounding):
    assert read(text) == Halves(centre, surrounding)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.EMPTY_HALF),
        (None, Reason.EMPTY_HALF),
        ("Center:; Surrounding: forest", Reason.EMPTY_HALF),
        ("Center: wolf; Surrounding:", Reason.EMPTY_HALF),
        ("Center: ...; Surrounding: forest", Reason.EMPTY_HALF),
        ("a wolf in the forest", Reason.UNPARSABLE),
        ("Center: wolf", Reason.UNPARSABLE),
        ("Center: wolf; Center: fox; Surrounding: snow", Reason.UNPARSABLE),
        ("Here you go. Center: wolf; Surrounding: snow", Reason.UNPARSABLE),
        ("I'm sorry, but I can't describe this image.", Reason.REFUSAL),
        ("I cannot help with that.", Reason.REFUSAL),
        ("Center: I am sorry, I cannot tell; Surrounding: snow", Reason.REFUSAL),
        ("Center: wolf; Surrounding: snow, snow, snow", Reason.REPETITION),
    ],
)
def test_what_is_not_has_a_typed_reason(read, text, reason):
    found = read(text)
    assert isinstance(found, Reject) and found.reason is reason and found.detail


def test_words_that_the_spec_leaves_out_are_taken_out_whole(tokenizer):
    spec = make_spec(tokenizer, leave_out=("left", "below"))
    read = read_answer(
        spec, "joint", "Center: cat Left; Surrounding: left, red tent left, leftover, below it", "stop", None
    )
    assert read == Halves("cat", "red tent, leftover, it")
    nothing = read_answer(spec, "joint", "Center: left; Surrounding: snow", "stop", None)
    assert isinstance(nothing, Reject) and nothing.reason is Reason.EMPTY_HALF


def test_leaving_words_out_reads_the_same_answers_and_changes_no_other_spec(tokenizer):
    plain, bare = make_spec(tokenizer), make_spec(tokenizer, leave_out=("left",))
    assert bare.answers_id == plain.answers_id and bare.spec_id != plain.spec_id
    assert "leave_out" not in plain.params and bare.params["leave_out"] == ["left"]


def test_an_answer_that_was_cut_is_no_caption(read):
    assert read("Center: wolf; Surrounding: for", finish_reason="length").reason is Reason.TRUNCATED


def test_errors_are_typed(read):
    assert read(None, error="500: boom").reason is Reason.SERVER_ERROR
    assert read(None, error="undecodable image: OSError: broken").reason is Reason.UNDECODABLE_IMAGE


def test_parts_of_a_split_caption(read):
    assert read("wolf, fur", part="centre") == Halves(centre="wolf, fur")
    assert read("Center: wolf", part="centre") == Halves(centre="wolf")
    assert read("snow", part="surrounding") == Halves(surrounding="snow")
    assert read("Surrounding: snow", part="centre").reason is Reason.UNPARSABLE
    assert read("Center: wolf; Surrounding: snow", part="centre").reason is Reason.UNPARSABLE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"centre": "wolf", "surrounding": "snow"}', Halves("wolf", "snow")),
        ('{"surrounding": "snow", "center": "wolf"}', Halves("wolf", "snow")),
        ('{"centre": "wolf"}', Reason.UNPARSABLE),
        ('{"centre": "wolf", "surrounding": 3}', Reason.UNPARSABLE),
        ('{"centre": "wolf", "surrounding": "snow", "more": "x"}', Reason.UNPARSABLE),
        ("[1]", Reason.UNPARSABLE),
        ("{", Reason.UNPARSABLE),
        ('{"centre": "", "surrounding": "snow"}', Reason.EMPTY_HALF),
    ],
)
def test_json_answers(read, text, expected):
    found = read(text, parser="json")
    assert (found.reason if isinstance(found, Reject) else found) == expected


def test_repetition_is_found_in_keywords_and_in_prose():
    assert repetition("snow, ice, snow, snow") == "snow"
    assert repetition("the dog and the dog and the dog and the dog and the dog") != ""
    assert repetition("a wolf stands in the snow, the moon above it, the forest behind it") == ""
