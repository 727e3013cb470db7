import pytest

from schemas.prompt import total_prompt
from vip.diffusion.prompt import make_prompt, parse_prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Center: wolf, fur; Surrounding: forest, trees", ("wolf, fur", "forest, trees")),
        (
            "Center: black-and-white cat; on a mat; Surrounding: lake: calm; sky-blue",
            ("black-and-white cat; on a mat", "lake: calm; sky-blue"),
        ),
        ("Center:; Surrounding:", ("", "")),
        ("centre: a Surrounding: b", ("a", "b")),
        ("Surrounding: sea", ("", "sea")),
        ("Center: boat", ("boat", "")),
        ("a boat on the sea; dusk", ("a boat on the sea; dusk", "a boat on the sea; dusk")),
    ],
)
def test_prompt_strings_split_at_their_labels(text, expected):
    assert parse_prompt(text) == expected


def test_nothing_filled_in_is_the_unconditional_string():
    assert total_prompt("", "") == "Center:; Surrounding:"
    assert make_prompt("", "") == ("Center:; Surrounding:", "Center:", "Surrounding:")


def test_each_branch_gets_its_own_text():
    assert make_prompt(" wolf ", "forest") == (
        "Center: wolf; Surrounding: forest",
        "Center: wolf",
        "Surrounding: forest",
    )
    assert make_prompt("wolf", "forest", total="a wolf", style="plain") == ("a wolf", "wolf", "forest")
