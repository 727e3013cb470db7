"""The console of a run: few lines, the last one always, the same work twice told twice."""

import json

import pytest

from flows.cli.common import print_json, print_table
from flows.cli.records import print_record
from flows.console import Console, time_left


def test_the_end_is_told_once_and_a_second_round_again(capsys):
    console = Console()
    for _ in range(2):
        for done in (1, 2, 3, 3):
            console.progress("captioning", done, 3)
    assert capsys.readouterr().err.splitlines() == ["  captioning: 3 of 3"] * 2


@pytest.mark.parametrize(
    ("done", "seconds", "text"),
    [
        (0, 10.0, ""),
        (1, 1.0, ""),  # too early
        (100, 10.0, ""),
        (10, 9.0, ", 81 s left"),
        (10, 10.0, ", 2 min left"),
        (1, 100.0, ", 2.8 h left"),
    ],
)
def test_the_time_that_is_left_is_told_in_its_own_unit(done, seconds, text):
    assert time_left(done, 100, seconds) == text


def test_a_quiet_console_says_nothing(capsys):
    console = Console()
    console.quiet = True
    console.say("hello")
    console.progress("captioning", 3, 3)
    assert capsys.readouterr().err == ""


def test_what_a_stranger_wrote_neither_colours_nor_commands_the_terminal(capsys):
    """A caption or a file name with escape sequences, a bell, and a mark that turns the reading direction."""
    hostile = "\x1b[31mred\x1b]0;title\x07 \u202ewolf\x9b2J"
    print_table([("caption", hostile)])
    print_record({"caption": {"text": hostile, "told": [{"raw": hostile}]}, "name": hostile})
    print_json({"text": hostile})
    said = capsys.readouterr().out
    assert said.count("wolf") == 5
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)
    assert json.loads(said[said.index("{") :])["text"] == hostile
