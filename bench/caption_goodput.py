"""Goodput: the whole client against a bare loop with prebuilt bodies, interleaved; on a real vLLM and on a fake one."""

import os
import tempfile
import time
from pathlib import Path

from bench._captioning import bare_loop, caption_all, fake_server, forget_answers, prebuilt_bodies, write_jpegs
from schemas.bank import Bank
from schemas.region import CentreRegion, View
from storage.store import ArtifactStore
from tests.vip.captioning.helpers import make_dataset, make_spec, make_tokenizer
from vip.captioning.specs import resolve_spec
from vip.nano.dataset import write_scenes
from vip.serving.engine import Engine


def main(quick: bool = False) -> None:
    """Both servers."""
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as scratch:
        on_fake(Path(scratch) / "fake", 1_000 if quick else 8_000, 1 if quick else 3)
        on_vllm(Path(scratch) / "vllm", 128 if quick else 2048, 1 if quick else 3)


def on_fake(folder: Path, count: int, rounds: int) -> None:
    """50 ms latency, 1,000 requests a second, 24 KB images sent as they are; then the same images resized."""
    size = write_jpegs(folder / "images", count, 256, 80)
    store = ArtifactStore(folder / "root")
    dataset = make_dataset(store, folder / "images", bits=4)
    spec = make_spec(make_tokenizer(folder / "tokenizer"))
    passing = Bank(view=View(width=256, height=256))
    print(
        f"fake server, 50 ms, 1,000 requests/s, {count} images of {size / 1000:.0f} KB ({os.cpu_count()} cores shared)"
    )
    bodies = prebuilt_bodies(store, dataset, spec, passing)
    best: dict[str, float] = {"bare": 0.0, "vip": 0.0}
    cpu = bare_cpu = 1e9
    with fake_server(0.05, 1000) as url:
        for _ in range(rounds):
            start = time.process_time()
            best["bare"] = max(best["bare"], bare_loop(url, bodies, 96))
            bare_cpu = min(bare_cpu, (time.process_time() - start) / len(bodies))
            forget_answers(store)
            stats = caption_all(store, dataset, spec, passing, url, folder / "scratch")
            best["vip"] = max(best["vip"], stats.per_second)
            cpu = min(cpu, stats.cpu_seconds / stats.requests)
        print(f"  bare loop, 96 in flight  {best['bare']:7.0f}/s, {1000 * bare_cpu:.2f} ms of client CPU an image")
        print(f"  vip, original bytes      {best['vip']:7.0f}/s, {best['vip'] / 1000:.2f} of capacity, ", end="")
        print(f"{1000 * cpu:.2f} ms of client CPU an image, {stats.most_in_flight} in flight at most")
        resized = Bank(view=View(width=192, height=128))
        stats = caption_all(store, dataset, spec, resized, url, folder / "scratch")
        print(f"  vip, cropped and resized {stats.per_second:7.0f}/s, ", end="")
        print(f"{1000 * stats.cpu_seconds / stats.requests:.2f} ms of client CPU an image")


def on_vllm(folder: Path, count: int, rounds: int) -> None:
    """A real vLLM; caches of images and prefixes are off, so that asking again costs what new images cost."""
    write_scenes(folder / "images", count)
    store = ArtifactStore(folder / "root")
    dataset = make_dataset(store, folder / "images", bits=3)
    bank = Bank(view=View(width=64, height=64), regions=(CentreRegion(),))
    off = ("--no-enable-prefix-caching", "--mm-processor-cache-gb", "0")
    with Engine("nano", folder / "vllm.log", arguments=off, ready_seconds=400) as engine:
        spec = resolve_spec("nano-joint", endpoint=engine.endpoint)
        bodies = prebuilt_bodies(store, dataset, spec, bank)
        bare_loop(engine.endpoint, bodies[:64], 32)
        fixed = {n: bare_loop(engine.endpoint, bodies[: max(len(bodies) // 2, 128)], n) for n in (32, 64, 128, 256)}
        found = ", ".join(f"{n}: {rate:.0f}/s" for n, rate in fixed.items())
        print(f"vLLM, nano captioner, {count} images of 64x64; bare loop by requests in flight: {found}")
        in_flight = max(fixed, key=lambda n: fixed[n])
        ratios = []
        for turn in range(rounds):
            ours, bare = 0.0, 0.0
            for way in ("bare", "vip") if turn % 2 == 0 else ("vip", "bare"):
                if way == "bare":
                    bare = bare_loop(engine.endpoint, bodies, in_flight)
                else:
                    forget_answers(store)
                    stats = caption_all(store, dataset, spec, bank, engine.endpoint, folder / "scratch")
                    ours = stats.per_second
            ratios.append(ours / bare)
            print(f"  bare at {in_flight}: {bare:6.1f}/s   vip: {ours:6.1f}/s   ratio {ours / bare:.3f}   ", end="")
            cpu = 1000 * stats.cpu_seconds / stats.requests
            print(f"({stats.most_in_flight} in flight at most, {cpu:.2f} ms CPU an image)")
        print(f"  goodput, median of {rounds}: {sorted(ratios)[rounds // 2]:.3f} of the bare loop")
