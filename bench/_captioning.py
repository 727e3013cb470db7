"""What the captioning benchmarks share: images, datasets, a bare loop, a fake server in a process of its own."""

import asyncio
import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

from schemas.bank import Bank
from schemas.manifest import Manifest
from schemas.spec import CaptionSpec
from storage.store import ArtifactStore
from vip.captioning.ask import ask
from vip.captioning.ask_stats import AskStats
from vip.captioning.endpoint import ClientSettings
from vip.captioning.plan import dataset_shards, open_rows, plan_captions
from vip.captioning.project import make_judge
from vip.captioning.shard_images import ShardImages
from vip.processes import free_port
from vip.serving.engine import is_healthy


def write_jpegs(folder: Path, count: int, side: int, quality: int, seed: int = 0) -> int:
    """Soft noise as JPEGs; returns the mean size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    size = 0
    for number in range(count):
        small = rng.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
        # Bytes behind the end mark bring every file to its size; readers and servers ignore them.
        data = buffer.getvalue() + rng.bytes(max(0, 24_000 - buffer.tell())) if side == 256 else buffer.getvalue()
        (folder / f"{number:06d}.jpg").write_bytes(data)
        size += len(data)
    return size // count


@contextlib.contextmanager
def fake_server(latency: float, capacity: float) -> Iterator[str]:
    """A stand-in that costs little CPU, in a process of its own; yields its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "bench._load_server", str(port), str(latency), str(capacity)]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_healthy(url):
            time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def prebuilt_bodies(store: ArtifactStore, dataset: Manifest, spec: CaptionSpec, bank: Bank) -> list[bytes]:
    """The body of every request of a dataset."""
    judge, found = make_judge(spec), []
    for prefix, ref in dataset_shards(dataset).items():
        images = ShardImages(store, store.require(ref))
        for row, needs in open_rows(store, prefix, ref, judge, bank):
            found += [request.body(images.read(row.sample.image_sha256), spec) for request in needs]
        images.close()
    return found


def bare_loop(url: str, bodies: list[bytes], in_flight: int) -> float:
    """Answers a second of a closed loop that does nothing but send and read."""

    async def run() -> float:
        queue = iter(bodies)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:

            async def worker() -> None:
                for body in queue:
                    async with session.post(f"{url}/v1/chat/completions", data=body) as answer:
                        await answer.read()
                        if answer.status != 200:
                            raise RuntimeError(await answer.text())

            start = time.monotonic()
            await asyncio.gather(*(worker() for _ in range(in_flight)))
            return len(bodies) / (time.monotonic() - start)

    return asyncio.run(run())


def caption_all(
    store: ArtifactStore,
    dataset: Manifest,
    spec: CaptionSpec,
    bank: Bank,
    url: str,
    scratch: Path,
    settings: ClientSettings | None = None,
) -> AskStats:
    """Plan and ask every row; timed by its stats."""
    plan = plan_captions(store, dataset, spec, bank, scratch=scratch)
    return ask(store, plan, [url], scratch, settings=settings)


def forget_answers(store: ArtifactStore) -> None:
    """Take every answer away, so that all of them are asked again."""
    for path in list(store.backend.list("answers")):
        store.backend.remove(path)
