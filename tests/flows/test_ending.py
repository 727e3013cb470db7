"""How a command ends is its exit code, whatever native libraries do while the process is torn down."""

import subprocess
import sys

import pytest

from tests.flows._command import environment

ABORTING = """
import atexit, ctypes, sys
import flows.cli.main
from flows.cli import process
from schemas.errors import VipError

def work():
    # What a library's global object does that finds its thread alive; called when the C library ends the process.
    library = ctypes.CDLL(None)
    library["__cxa_atexit"](library.abort, None, None)
    atexit.register(print, "an exit handler of a library")
    print("made")
    {ending}

flows.cli.main.main = work
process.main()
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("pass", 0),
        ("flows.cli.main.fail(VipError('no'))", 1),
        ("raise SystemExit(2)", 2),
        ("raise KeyboardInterrupt", 130),
        ("raise RuntimeError('a mistake of ours')", 1),
    ],
)
def test_a_library_that_aborts_at_the_exit_changes_no_exit_code_and_loses_no_output(ending, code):
    command = [sys.executable, "-c", ABORTING.replace("{ending}", ending)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment())
    assert (done.returncode, done.stdout) == (code, "made\nan exit handler of a library\n"), done.stderr
