"""A signal ends the command line with one line, whatever it was doing."""

import signal
import subprocess
import sys
import time

import pytest

from tests.flows._command import environment

WAITING = """
import asyncio, sys, time
import flows.cli.main
from flows.cli import process
from vip.interruptible import run_interruptible

async def ask():
    async def other():
        while True:
            await asyncio.sleep(0)  # callbacks of the loop, one after the other
    task = asyncio.create_task(other())
    print("up", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("journal closed", flush=True)

def work():
    run_interruptible(ask()) if "loop" in sys.argv else (print("up", flush=True), time.sleep(60))

flows.cli.main.main = work
process.main()
"""


@pytest.mark.parametrize("how", ["loop", "sleep"])
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_one_line_and_the_code_of_the_signal(number, code, word, how):
    running = subprocess.Popen(
        [sys.executable, "-c", WAITING, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert running.stdout.readline() == "up\n"
    time.sleep(0.05)
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert err == f"{word}; run the same command again to go on\n"
    assert running.returncode == code
    assert out == ("journal closed\n" if how == "loop" else "")


IN_A_DESTRUCTOR = """
import os, signal, sys, time
import contextlib
import flows.cli.main
from flows.cli import process

def during():
    # A flow of Prefect has a handler of its own for SIGTERM.
    from prefect.utilities.engine import capture_sigterm
    return capture_sigterm() if "flow" in sys.argv else contextlib.nullcontext()

class Dying:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0)

def work():
    with during():
        Dying()
        time.sleep(20)
    print("went on")

flows.cli.main.main = work
process.main()
"""


@pytest.mark.parametrize("where", ["work", "flow"])
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_that_falls_into_a_destructor_is_not_lost(number, code, word, where):
    command = [sys.executable, "-c", IN_A_DESTRUCTOR, str(int(number)), where]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"{word}; run the same command again to go on\n"


DISGUISED = """
import flows.cli.main
from flows.cli import process
from prefect.exceptions import TerminationSignal

def work():
    try:
        raise {signal}
    except BaseException:
        raise ValueError("Task run is not set")  # Prefect, where its engine is at its first steps

flows.cli.main.main = work
process.main()
"""


@pytest.mark.parametrize(
    ("raised", "code", "word"),
    [("TerminationSignal(signal=15)", 143, "terminated"), ("KeyboardInterrupt", 130, "interrupted")],
)
def test_an_error_of_a_library_that_was_interrupted_is_an_interruption(raised, code, word):
    command = [sys.executable, "-c", DISGUISED.replace("{signal}", raised)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=60)
    assert (done.returncode, done.stderr) == (code, f"{word}; run the same command again to go on\n")


def test_compiled_code_that_was_interrupted_says_so_in_its_message_alone():
    code = "import flows.cli.main\nfrom flows.cli import process\n"
    code += "def work():\n    raise ValueError('Error building \\'literal\\' validator: KeyboardInterrupt: ')\n"
    code += "flows.cli.main.main = work\nprocess.main()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted; run the same command again to go on\n")


def test_a_signal_that_comes_when_the_work_is_over_changes_nothing():
    code = "import atexit, os, signal\nimport flows.cli.main\nfrom flows.cli import process\n"
    code += "atexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
    code += "flows.cli.main.main = lambda: print('done')\nprocess.main()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
