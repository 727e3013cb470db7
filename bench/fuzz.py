"""Fuzzing of whatever reads what others wrote: cases a second and findings, by hypothesis and by atheris.

A finding is an exception that the reader does not promise; it is named by its kind and place. atheris chooses its cases
by what they reach in the code; it is left out where it is not installed (``pip install '.[bench]'``).

    python -m bench.fuzz [--seconds N] [--atheris TARGET]
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz_targets import TARGETS, Target

SECONDS = 60.0


def main(quick: bool = False) -> None:
    """Fuzz every target; a minute each by either tool, or two seconds."""
    run(2.0 if quick else SECONDS)


def run(seconds: float) -> int:
    """Print a line for each target and tool.

    Returns:
        The number of findings.
    """
    findings = 0
    print(f"{'reads':12} {'tool':11} {'cases':>9} {'a second':>9}  findings")
    for target in TARGETS:
        for tool, fuzz in (("hypothesis", by_hypothesis), ("atheris", by_atheris)):
            began = time.monotonic()
            cases, found = fuzz(target, seconds)
            spent = time.monotonic() - began
            shown = "; ".join(f"{name} ({count})" for name, count in found.most_common(3)) or "none"
            rate = f"{cases:9,} {cases / spent:9,.0f}" if cases else f"{'-':>9} {'-':>9}"
            print(f"{target.name:12} {tool:11} {rate}  {shown if cases else 'not installed'}", flush=True)
            findings += len(found)
    print(f"{findings} findings")
    return findings


def mutated(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Good inputs with a few edits: bytes changed, put in, taken out, doubled, cut off; and bytes of no sense."""
    place = st.integers(0, 1 << 20)
    piece = st.binary(min_size=1, max_size=8) | st.sampled_from(
        [b"\0" * 8, b"\xff" * 8, b'"', b"{", b"[", b":", b"9" * 30]
    )
    edit = st.tuples(st.sampled_from(["set", "put", "take", "double", "cut"]), place, place, piece)
    return st.builds(_edited, st.sampled_from(seeds), st.lists(edit, max_size=6)) | st.binary(max_size=200)


def _edited(data: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, start, length, piece in edits:
        at = start % (len(data) + 1)
        end = min(len(data), at + 1 + length % 64)
        if kind == "set":
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == "put":
            data = data[:at] + piece + data[at:]
        elif kind == "take":
            data = data[:at] + data[end:]
        elif kind == "double":
            data = data[:end] + data[at:end] * 3 + data[end:]
        else:
            data = data[:at]
    return data


def by_hypothesis(target: Target, seconds: float) -> tuple[int, Counter[str]]:
    """Cases within the time, and the findings."""
    found: Counter[str] = Counter()
    cases, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:

        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(mutated(target.seeds))
        def once(data: bytes) -> None:
            nonlocal cases
            cases += 1
            if problem := judged(target, data):
                found[problem] += 1

        once()
    return cases, found


def judged(target: Target, data: bytes) -> str:
    """What is wrong with how the reader took ``data``; empty where nothing is."""
    try:
        target.read(data)
    except Exception as error:  # noqa: BLE001 - every kind of it is a finding
        return _named(error)
    return ""


def _named(error: Exception) -> str:
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    last = ours[-1]
    place = "/".join(Path(last.filename).parts[-2:])
    return f"{type(error).__name__} at {place}:{last.lineno}: {' '.join(str(error).split())[:60]}"


def by_atheris(target: Target, seconds: float) -> tuple[int, Counter[str]]:
    """The same by atheris, in a process of its own, which it never gives back."""
    if importlib.util.find_spec("atheris") is None:
        return 0, Counter()
    with tempfile.TemporaryDirectory(prefix="vip-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(target.seeds):
            (corpus / f"{number}").write_bytes(seed)
        report = Path(folder) / "report"
        command = [sys.executable, "-m", "bench.fuzz", "--atheris", target.name, "--report", str(report)]
        command += ["--seconds", str(seconds), "--corpus", str(corpus)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not report.exists():
            return 1, Counter({f"atheris ended with {done.returncode}: {done.stderr[-200:]}": 1})
        cases, *lines = report.read_text().splitlines()
        return int(cases), Counter(lines)


def _atheris(target: Target, seconds: float, corpus: str, report: Path) -> None:
    """Fuzz in this process; it is left by libFuzzer when the time is up."""
    import atheris

    cases, found = 0, list[str]()
    until = time.monotonic() + seconds

    def once(data: bytes) -> None:
        nonlocal cases
        cases += 1
        if problem := judged(target, data):
            found.append(problem)
        if time.monotonic() > until:
            report.write_text("\n".join([str(cases), *found]))
            os._exit(0)

    atheris.Setup([sys.argv[0], "-max_len=20000", "-verbosity=0", corpus], once)
    atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--atheris")
    parser.add_argument("--corpus")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    if options.atheris:
        (chosen,) = (target for target in TARGETS if target.name == options.atheris)
        _atheris(chosen, options.seconds, options.corpus, options.report)
    raise SystemExit(run(options.seconds))
