"""How fast lineage answers on a root of a million captions: whole processes, the queries alone, the index."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._lineage_large import large_root, one_more_shard
from bench._lineage_root import Synthetic
from storage.backend import Backend

RUNS = 7


def main(quick: bool = False) -> None:
    """Print wall and CPU seconds of each question, of a rebuild, and of taking in one more shard."""
    shards, rows, many = (20, 100, 5) if quick else (1000, 1000, 50)
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as folder:
        place = Path(folder) / "root"
        began = time.monotonic()
        root = large_root(place, shards=shards, rows=rows, checkpoints=many, metrics=100)
        held = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        print(f"root: {shards * rows:,} captions, {shards:,} shards, {many} checkpoints, {100 * many:,} metrics")
        print(f"      {held / 1e6:,.0f} MB, made in {time.monotonic() - began:.0f} s")
        measure(root, place, root.captions["keywords"][-1].key, shards)


def measure(root: Synthetic, place: Path, captions: str, shards: int) -> None:
    """Ask everything of a root that is there.

    Args:
        root: to publish one more shard in.
        place: its folder.
        captions: key of the captions of the shard that holds bytes.
        shards: how many there are.
    """
    print(f"{'what':<34} {'wall min':>9} {'median':>7} {'cpu min':>8}")
    _process("audit reindex", place, ["audit", "reindex"], runs=2)
    caption, image, metric = _ids(place, captions)
    for words in (
        ["caption", caption],
        ["metric", metric],
        ["impact", "--image", image],
        ["impact", "--prompt", "keywords"],
        ["impact", "--model", "nano"],
        ["impact", "--dataset", "scenes"],
        ["image", image],
        ["checkpoint", "latest"],
    ):
        _process(f"audit {' '.join(words)}"[:34], place, ["audit", *words], RUNS)
    _queries(place, caption, image, metric)
    one_more_shard(root, shards)
    _process("caption, after one new shard", place, ["audit", "caption", caption], runs=1)
    print(f"index: {(place / 'index' / 'lineage.sqlite').stat().st_size / 1e6:,.0f} MB")


def _process(name: str, place: Path, words: list[str], runs: int) -> None:
    walls, cpus = [], []
    for _ in range(runs):
        began = time.perf_counter()
        script = (
            "import os, sys; from flows.cli.main import main\n"
            "try:\n  main(sys.argv[1:])\n"
            "finally:\n  sys.stdout.flush(); t = os.times(); print(t.user + t.system, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, *words, "--root", str(place)], capture_output=True, text=True, check=True
        )
        walls.append(time.perf_counter() - began)
        cpus.append(float(done.stderr.split()[-1]))
    print(f"{name:<34} {min(walls):>8.2f}s {statistics.median(walls):>6.2f}s {min(cpus):>7.2f}s", flush=True)


def _ids(place: Path, captions: str) -> tuple[str, str, str]:
    from vip.lineage.index import LineageIndex

    index = LineageIndex(Backend(str(place)))
    first = index.db.execute(
        "SELECT caption.id, image FROM caption JOIN artifact ON artifact.id = caption.artifact WHERE key = ?",
        (captions,),
    ).fetchone()
    metric = index.db.execute("SELECT id FROM metric ORDER BY rowid DESC").fetchone()["id"]
    index.close()
    return first["id"].hex(), first["image"].hex(), metric


def _queries(place: Path, caption: str, image: str, metric: str) -> None:
    """The questions inside one process, the index open and warm."""
    from vip.lineage.caption import trace_caption
    from vip.lineage.impact import impact_of_dataset, impact_of_image, impact_of_model, impact_of_prompt
    from vip.lineage.index import open_index
    from vip.lineage.metric import trace_metric

    index = open_index(str(place))
    questions: list[tuple[str, Any, str]] = [
        ("query: caption", trace_caption, caption),
        ("query: metric", trace_metric, metric),
        ("query: impact of an image", impact_of_image, image),
        ("query: impact of a prompt", impact_of_prompt, "keywords"),
        ("query: impact of a model", impact_of_model, "nano"),
        ("query: impact of a dataset", impact_of_dataset, "scenes"),
        ("query: is the index up to date", lambda one, _: one.refresh(), ""),
    ]
    for name, question, text in questions:
        walls, cpus = [], []
        for _ in range(RUNS):
            began, spent = time.perf_counter(), time.process_time()
            question(index, text)
            walls.append(time.perf_counter() - began)
            cpus.append(time.process_time() - spent)
        print(f"{name:<34} {min(walls):>8.3f}s {statistics.median(walls):>6.3f}s {min(cpus):>7.3f}s")
    index.close()
