"""The console of a run: few lines, the last one always, the same work twice told twice."""

from flows.console import Console


def test_the_end_is_told_once_and_a_second_round_again(capsys):
    console = Console()
    for _ in range(2):
        for done in (1, 2, 3, 3):
            console.progress("captioning", done, 3)
    assert capsys.readouterr().err.splitlines() == ["  captioning: 3 of 3"] * 2


def test_a_quiet_console_says_nothing(capsys):
    console = Console()
    console.quiet = True
    console.say("hello")
    console.progress("captioning", 3, 3)
    assert capsys.readouterr().err == ""
