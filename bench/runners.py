"""Runners: captioning by one and two Dask workers side by side; memory and task runs while 20,000 shards are made."""

import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import yaml
from PIL import Image

from bench._captioning import fake_server
from schemas.retrain_config import CaptionConfig
from schemas.runner import Runner
from schemas.sharding import ShardSettings
from tests.vip.captioning.helpers import BANK, make_spec, make_tokenizer, write_images

LATENCY, IN_FLIGHT = 1.0, 16


def main(quick: bool = False) -> None:
    """Both."""
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as scratch, _prefect(Path(scratch)) as server:
        two_workers(Path(scratch), 160 if quick else 1_600, 1)
        many_shards(Path(scratch), 300 if quick else 20_000, server)


def two_workers(folder: Path, images: int, rounds: int) -> None:
    """Each worker keeps 16 requests in flight to an engine that takes a second for each, so that not a core decides."""
    from flows.caption import caption
    from flows.shard import shard

    write_images(folder / "images", images)
    spec = _spec(folder)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with fake_server(LATENCY, 100_000) as url:
        config = CaptionConfig(spec=spec, endpoints=(url,), in_flight=IN_FLIGHT)
        for number in range(rounds):
            for workers in (1, 2) if number % 2 == 0 else (2, 1):
                root = str(folder / f"root-{number}-{workers}")
                dataset = shard(root, str(folder / "images"), ShardSettings(name="small", bits=6))
                (done,) = caption(
                    root, dataset, BANK, config, (spec,), runner=Runner(kind="dask", workers=workers, wave=64)
                )
                rates[workers].append(done.asked.per_second)
                print(
                    f"  {workers} Dask workers: {done.asked.requests} answers, {done.asked.per_second:.1f}/s",
                    flush=True,
                )
    one, two = (statistics.mean(rates[workers]) for workers in (1, 2))
    print(f"two workers against one: {two / one:.2f} times ({two:.1f}/s and {one:.1f}/s)", flush=True)


def many_shards(folder: Path, wanted: int, server: psutil.Process) -> None:
    """Build so many shards of about one small image; prints memory of flow and server, and the task runs alive."""
    from flows.shard import shard

    images = int(wanted * 1.19)
    bits = max(1, (2 * wanted).bit_length())
    source = _tiny_images(folder / "tiny", images)
    ours = psutil.Process()
    seen: list[tuple[float, int, int, int]] = []
    over = threading.Event()

    def look() -> None:
        start = time.monotonic()
        while not over.wait(2.0):
            seen.append((time.monotonic() - start, ours.memory_info().rss >> 20, _rss(server), _alive()))

    watcher = threading.Thread(target=look)
    watcher.start()
    started = time.monotonic()
    runner = Runner()
    made = shard(str(folder / "many"), source, ShardSettings(name="many", bits=min(bits, 20)), runner)
    seconds = time.monotonic() - started
    over.set()
    watcher.join()
    from storage.store import ArtifactStore

    shards = ArtifactStore(str(folder / "many")).require(made).stats["shards"]
    print(
        f"{shards:,} shards in {seconds:.0f} s, {len(runner.slices([0] * shards)):,} task runs of a slice each; ",
        end="",
    )
    print(f"alive at once {max((row[3] for row in seen), default=0)}, allowed {runner.wave}")
    print(f"  the flow's peak, which is the join: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
    for row in seen[:: max(1, len(seen) // 10)]:
        print(f"  after {row[0]:5.0f} s: flow {row[1]} MB, Prefect's server {row[2]} MB, {row[3]} task runs alive")


def _tiny_images(folder: Path, count: int) -> str:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(folder / f"{number:06d}.png", compress_level=0)
    return str(folder)


def _rss(server: psutil.Process) -> int:
    found = 0
    for one in [server, *server.children(recursive=True)]:
        try:
            found += one.memory_info().rss >> 20
        except psutil.NoSuchProcess:
            continue
    return found


def _alive() -> int:
    """Task runs that Prefect knows as pending or running."""
    import httpx

    states = {"task_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "SCHEDULED"]}}}}
    return int(httpx.post(f"{os.environ['PREFECT_API_URL']}/task_runs/count", json=states, timeout=60).json())


def _spec(folder: Path) -> str:
    tokenizer = make_tokenizer(folder / "tokenizer")
    spec = make_spec(tokenizer).model_dump(mode="json", exclude_none=True)
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**spec, "tokenizer": str(tokenizer)}))
    return str(path)


@contextmanager
def _prefect(folder: Path) -> Iterator[psutil.Process]:
    """A Prefect server of our own; yields its process."""
    from flows.console import console
    from flows.run import local_run

    before = {one.pid for one in psutil.Process().children()}
    console.quiet = True
    with local_run(str(folder / "server")):
        from prefect.settings import PREFECT_API_URL, temporary_settings

        (supervisor,) = (one for one in psutil.Process().children() if one.pid not in before)
        with temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}):
            yield supervisor


if __name__ == "__main__":
    main(quick=True)
