"""Who works on what, agreed by put-if-absent alone: holders that live, end, die here, and fall silent elsewhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.backend import Backend
from storage.claims import Claim, Claims
from storage.removal import leftovers, remove_leftover

PROJECT = Path(__file__).resolve().parents[2]
QUICK = {"beat_seconds": 0.05, "silent_seconds": 0.6, "look_seconds": 0.02}


@pytest.fixture(params=["local", "s3"])
def backend(request, tmp_path):
    return Backend(request.getfixturevalue("s3_root") if request.param == "s3" else str(tmp_path / "root"))


def claims(backend, scratch, **more):
    return Claims(backend, "work", scratch, **{**QUICK, **more})


def until(ready, seconds=20):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_one_holds_an_item_and_what_it_finished_is_done_for_who_waited(backend, tmp_path):
    with claims(backend, tmp_path / "b") as other:
        with claims(backend, tmp_path / "a") as one:
            assert one.take("x") is Claim.OURS and one.take("x") is Claim.OURS
            assert other.take("x") is Claim.HELD and other.take("y") is Claim.OURS
            assert one.take("y") is Claim.HELD and one.look("y") is Claim.HELD
            one.release(finished=True)
        until(lambda: other.look("x") is not Claim.HELD)
        assert other.take("x") is Claim.DONE


def test_what_is_done_with_another_aim_is_to_be_looked_at_by_one_at_a_time(backend, tmp_path):
    with claims(backend, tmp_path / "b", aim="other") as other, claims(backend, tmp_path / "c", aim="other") as third:
        with claims(backend, tmp_path / "a", aim="one") as one:
            assert one.take("x") is Claim.OURS
            assert other.take("x") is third.take("x") is Claim.HELD
            one.release(finished=True)
        until(lambda: other.look("x") is not Claim.HELD)
        assert other.look("x") is None and other.take("x") is Claim.OURS
        until(lambda: third.look("x") is None)
        assert third.take("x") is Claim.HELD
        other.release(finished=True)
        until(lambda: third.look("x") is not Claim.HELD)
        assert third.take("x") is Claim.DONE


def test_what_an_earlier_run_finished_says_nothing_about_now(backend, tmp_path):
    with claims(backend, tmp_path) as one:
        assert one.take("x") is Claim.OURS
        one.release(finished=True)
        assert one.take("x") is Claim.OURS
        one.release(finished=True)
    with claims(backend, tmp_path) as other:
        assert other.take("x") is Claim.OURS


def test_what_a_holder_leaves_undone_is_taken_over(backend, tmp_path):
    with claims(backend, tmp_path / "c") as other:
        with pytest.raises(KeyError), claims(backend, tmp_path / "a") as failing:
            failing.take("x")
            assert other.take("x") is Claim.HELD
            raise KeyError
        with claims(backend, tmp_path / "b") as stopped:
            stopped.take("y")
            assert other.take("y") is Claim.HELD
            stopped.release(finished=False)
        until(lambda: other.take("x") is Claim.OURS)
        until(lambda: other.take("y") is Claim.OURS)


def test_of_many_who_want_an_item_at_once_one_gets_it(backend, tmp_path):
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack

    with ExitStack() as stack, ThreadPoolExecutor(6) as pool:
        holders = [stack.enter_context(claims(backend, tmp_path)) for _ in range(6)]
        for item in ("x", "y", "z"):
            got = list(pool.map(lambda holder, item=item: holder.take(item), holders))
            assert sorted(one.value for one in got) == ["held"] * 5 + ["ours"]


def _killed_holder(backend, scratch):
    code = (
        "import sys, time; from pathlib import Path; from storage.backend import Backend\n"
        "from storage.claims import Claims\n"
        "claims = Claims(Backend(sys.argv[1]), 'work', Path(sys.argv[2]), beat_seconds=0.05)\n"
        "print(claims.take('x').value, flush=True); time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", code, backend.url, str(scratch)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=PROJECT)


def test_a_holder_of_this_machine_that_is_killed_is_seen_at_once_and_its_leavings_are_saved_first(backend, tmp_path):
    saved = []
    killed = _killed_holder(backend, tmp_path)
    assert killed.stdout.readline() == "ours\n"
    with claims(backend, tmp_path, on_dead=lambda: saved.append(True), silent_seconds=600) as other:
        assert other.take("x") is Claim.HELD and not saved
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        until(lambda: other.take("x") is Claim.OURS)
        assert saved == [True]


def test_a_holder_elsewhere_is_dead_when_its_beats_stand_still_and_not_before(backend, tmp_path):
    killed = _killed_holder(backend, tmp_path / "elsewhere")
    assert killed.stdout.readline() == "ours\n"
    with claims(backend, tmp_path / "here") as other:
        end = time.monotonic() + 2 * QUICK["silent_seconds"]
        while time.monotonic() < end:
            assert other.take("x") is Claim.HELD
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert other.take("x") is Claim.HELD
        until(lambda: other.take("x") is Claim.OURS)


def test_claims_of_former_runs_are_collected(backend, tmp_path):
    with claims(backend, tmp_path) as one:
        one.take("x")
    assert not list(leftovers(backend, 3600))
    for path, _ in list(leftovers(backend, 0)):
        remove_leftover(backend, path)
    assert not list(backend.list("claims"))
    with claims(backend, tmp_path) as other:
        assert other.take("x") is Claim.OURS
