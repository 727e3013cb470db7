"""Storms: two at once and failing surroundings, twenty rounds of each with other moments; a table of what passed.

    python -m bench.storms [--rounds N] [--worlds N] [--only WORDS ...] [--but WORDS ...]

The scenarios are those of ``tests/storms``. Rounds mostly wait, so that several worlds work side by side.
"""

import argparse
import multiprocessing
import queue
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from tests.storms.every import storms
from tests.storms.world import World


def main(quick: bool = False) -> None:
    """Twenty rounds of every storm, or one; exits with 1 where not all passed."""
    if not run(rounds=1 if quick else 20):
        raise SystemExit(1)


def run(rounds: int, worlds: int = 2, only: Sequence[str] = (), but: Sequence[str] = (), seed: int = 0) -> bool:
    """Make the rounds, first one of each, then the next; print every failure and the table.

    Returns:
        Whether all passed.
    """
    names = [storm.name for storm in storms()]
    wanted = [name for name in names if not only or any(words in name for words in only)]
    wanted = [name for name in wanted if not any(words in name for words in but)]
    spawn = multiprocessing.get_context("spawn")
    todo: Queue[tuple[str, int]] = spawn.Queue()
    done: Queue[tuple[str, int, str, float]] = spawn.Queue()
    for number in range(rounds):
        for name in wanted:
            todo.put((name, seed + number))
    passed: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    made: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="vip-storms-") as folder:
        workers = [spawn.Process(target=_work, args=(Path(folder), place, todo, done)) for place in range(worlds)]
        for worker in workers:
            worker.start()
        whole = 0
        for name, number, problem, took in _results(done, workers, rounds * len(wanted)):
            passed[name] += not problem
            seconds[name] += took
            made[name] += 1
            if problem:
                print(f"FAILED {name}, round {number}: {problem}", flush=True)
            if (least := min(made[name] for name in wanted)) > whole:
                whole = least
                print(f"{whole} rounds of each; failed until now: {made.total() - passed.total()}", flush=True)
        for worker in workers:
            worker.join()
    width = max(map(len, wanted))
    for name in wanted:
        print(
            f"{name:{width}}  {passed[name]:3} of {made[name]} rounds  {seconds[name] / max(1, made[name]):5.1f} s each"
        )
    print(f"{passed.total()} of {rounds * len(wanted)} rounds passed", flush=True)
    return passed.total() == rounds * len(wanted)


def _results(
    done: "Queue[tuple[str, int, str, float]]", workers: list[Any], count: int
) -> Iterator[tuple[str, int, str, float]]:
    """What the workers report, until all is reported or none of them lives."""
    while count:
        try:
            yield done.get(timeout=5)
            count -= 1
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers):
                return


def _work(folder: Path, place: int, todo: "Queue[tuple[str, int]]", done: "Queue[tuple[str, int, str, float]]") -> None:
    known = {storm.name: storm for storm in storms()}
    with World(folder / f"world-{place}", folder) as world:
        owner = multiprocessing.parent_process()
        while owner is not None and owner.is_alive():
            try:
                name, number = todo.get(timeout=2)
            except queue.Empty:
                return
            began, problem = time.monotonic(), ""
            try:
                known[name].round(world, random.Random(f"{name} {number}"))
            except AssertionError as error:
                problem = str(error) or traceback.format_exc()
            except Exception:  # noqa: BLE001 - whatever it is, the round has failed and the next one follows
                problem = traceback.format_exc()
            done.put((name, number, problem, time.monotonic() - began))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--worlds", type=int, default=2)
    parser.add_argument("--only", action="append", default=[], help="those that have these words in their name")
    parser.add_argument("--but", action="append", default=[], help="leave out those that have these words")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    raise SystemExit(not run(options.rounds, options.worlds, options.only, options.but, options.seed))
