"""SIGKILL at random moments loses nothing, repeats nothing that was kept, and changes no byte."""

from tests.vip.captioning.crash_fuzz import fuzz


def test_killed_ten_times_the_captions_are_the_same_bytes(tmp_path):
    result = fuzz(tmp_path, rows=300, kills=10)
    assert result.kills == 10
    assert result.asked_again == 0
