"""A subprocess we own ends with us, whatever ends us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from vip.processes import OwnedProcess, wait_until

# A server that starts a child of its own, as vLLM does, ignores nothing and never ends by itself.
TREE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""


def _alive(pid):
    try:
        with Path(f"/proc/{pid}/stat").open() as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _gone(pid, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not _alive(pid):
            return True
        time.sleep(0.05)
    return False


def _child_of(log):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if log.exists() and "child" in log.read_text():
            return int(log.read_text().split()[-1])
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def test_stop_ends_the_whole_tree(tmp_path):
    with OwnedProcess([sys.executable, "-c", TREE], tmp_path / "log", grace=5) as process:
        child = _child_of(tmp_path / "log")
        assert _alive(child) and process.poll() is None
    assert _gone(child)
    assert process.poll() == 128 + signal.SIGTERM


def test_the_exit_code_and_the_last_lines_are_kept(tmp_path):
    process = OwnedProcess([sys.executable, "-c", "print('no memory left'); raise SystemExit(7)"], tmp_path / "log")
    assert process.wait(20) == 7
    assert process.last_lines() == "no memory left"
    assert not wait_until(lambda: True, process, 5)


def test_a_command_that_is_not_there_is_named(tmp_path):
    process = OwnedProcess(["/nowhere/python"], tmp_path / "log")
    assert process.wait(20) == 127
    assert "cannot start /nowhere/python: No such file" in process.last_lines()


def test_sigkill_of_the_owner_ends_the_whole_tree(tmp_path):
    log = tmp_path / "log"
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from vip.processes import OwnedProcess\n"
            f"process = OwnedProcess([sys.executable, '-c', {TREE!r}], Path({str(log)!r}), grace=2)\n"
            "print('up', flush=True); time.sleep(600)",
        ],
        start_new_session=True,
    )
    child = _child_of(log)
    os.killpg(owner.pid, signal.SIGKILL)
    owner.wait()
    assert _gone(child)


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print("child", child.pid, flush=True)
time.sleep(600)
"""


def test_children_in_sessions_of_their_own_that_heed_nothing_end_too(tmp_path):
    with OwnedProcess([sys.executable, "-c", STUBBORN], tmp_path / "log", grace=0.5) as process:
        child = _child_of(tmp_path / "log")
    assert process.poll() == 128 + signal.SIGKILL
    assert _gone(child, seconds=1)
