"""Kill captioning at random moments until it is done, and compare every byte; used by a test and by a bench."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from storage.answers import Answers
from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import BANK, make_dataset, make_spec, make_tokenizer, run, write_images
from vip.captioning.plan import dataset_shards, open_rows
from vip.captioning.project import captions_recipe, make_judge
from vip.captioning.shard_images import ShardImages


@dataclass
class FuzzResult:
    kills: int = 0
    journalled: int = 0
    asked: int = 0
    rows: int = 0
    asked_again: int = 0
    runs: int = 0


def caption_digests(store, dataset, spec):
    """Prefix -> digest of the captions artifact (over the bytes of its files)."""
    found = {}
    for prefix, ref in dataset_shards(dataset).items():
        found[prefix] = store.find(captions_recipe(ref, spec, BANK)).digest
    return found


def bodies(store, dataset, spec):
    """request_id -> SHA-256 of the body that asks it."""
    judge, found = make_judge(spec), {}
    for prefix, ref in dataset_shards(dataset).items():
        images = ShardImages(store, store.require(ref))
        for row, needs in open_rows(store, prefix, ref, judge, BANK):
            for request in needs:
                found[request.request_id] = hashlib.sha256(
                    request.body(images.read(row.sample.image_sha256), spec)
                ).hexdigest()
        images.close()
    return found


def kept(store, spec, scratch):
    """Every request whose answer is in a segment or in a journal."""
    answered = set(Answers(store.backend, spec.answers_id).look_up(""))
    for path in scratch.glob("*.journal"):
        for line in path.read_bytes().split(b"\n")[1:-1]:
            answered.add(json.loads(line)["request_id"])
    return answered


def fuzz(folder: Path, rows: int, kills: int, seed: int = 0, capacity: float = 800.0) -> FuzzResult:
    """Kill until ``kills`` are counted; whenever a run completes it is compared and a fresh one begins."""
    rng = random.Random(seed)
    images = write_images(folder / "images", rows)
    spec = make_spec(make_tokenizer(folder / "tokenizer"), strategy="split")
    result = FuzzResult(rows=rows)
    server = FakeServer(latency=0.005, capacity=capacity)
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.vip.captioning.crash_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with serving(server) as endpoint:
            calm = ArtifactStore(folder / "calm")
            dataset = make_dataset(calm, images)
            digest_of = bodies(calm, dataset, spec)
            run(calm, dataset, spec, [endpoint], folder / "calm-scratch")
            expected = caption_digests(calm, dataset, spec)
            while result.kills < kills:
                result.runs += 1
                _one_run(
                    folder / f"run-{result.runs}", images, spec, server, endpoint, worker, rng, kills, result, digest_of
                )
                store = ArtifactStore(folder / f"run-{result.runs}")
                assert caption_digests(store, dataset, spec) == expected
                assert not list((folder / f"run-{result.runs}-scratch").glob("*.journal"))
    finally:
        worker.kill()
        worker.wait()
    return result


def _one_run(root, images, spec, server, endpoint, worker, rng, kills, result, digest_of):
    store, scratch = ArtifactStore(root), root.with_name(f"{root.name}-scratch")
    dataset = make_dataset(store, images)
    order = {
        "root": str(root),
        "dataset": dataset.key,
        "spec": spec.model_dump(mode="json"),
        "bank": BANK.model_dump(mode="json"),
        "endpoint": endpoint,
        "scratch": str(scratch),
    }
    while True:
        before = kept(store, spec, scratch)
        server.asked.clear()
        worker.stdin.write(json.dumps(order) + "\n")
        worker.stdin.flush()
        pid = int(worker.stdout.readline())
        if result.kills < kills:
            time.sleep(rng.uniform(0.0, 0.6))
            try:
                os.killpg(pid, signal.SIGKILL)
                os.kill(pid, 0)
            except ProcessLookupError:
                pass  # not yet in its own session, or done already
        code = int(worker.stdout.readline())
        assert code in (0, -signal.SIGKILL), code
        time.sleep(0.05)  # what the server had already read
        asked = list(server.asked)
        result.asked += len(asked)
        result.asked_again += len(set(asked) & {digest_of[request] for request in before})
        if code == 0:
            return
        result.kills += 1
        result.journalled = max(result.journalled, len(before))
