"""Crash fuzz: SIGKILL at a hundred random moments, then a comparison of every byte."""

import tempfile
import time
from pathlib import Path

from tests.vip.captioning.crash_fuzz import fuzz


def main(quick: bool = False) -> None:
    """Kill, compare, print what was found; an assertion fails where a byte differs."""
    kills = 10 if quick else 100
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as scratch:
        start = time.monotonic()
        result = fuzz(Path(scratch), rows=400, kills=kills, seed=1)
    print(
        f"{result.kills} SIGKILLs over {result.runs} runs of {result.rows} rows (two requests each) in "
        f"{time.monotonic() - start:.0f} s: captions byte-identical each time; {result.asked_again} requests asked "
        f"again of those whose answer had been kept"
    )
