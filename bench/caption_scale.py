"""Scale: memory while 200,000 rows are captioned; a plan and a no-op run over 1,000,000 finished rows."""

import hashlib
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from bench._captioning import fake_server
from schemas.bank import Bank
from schemas.manifest import Manifest, Recipe
from schemas.region import View
from schemas.spec import CaptionSpec
from schemas.tables import CAPTION_REJECTS, CAPTIONS, NAMES, SAMPLES
from storage.answers import key_bits
from storage.shards import ShardWriter
from storage.store import ArtifactStore
from storage.tables import write_table
from tests.vip.captioning.helpers import make_spec, make_tokenizer, write_images
from vip.captioning.ask import ask
from vip.captioning.caption_set import make_caption_set
from vip.captioning.plan import plan_captions
from vip.captioning.project import captions_recipe, project_shard

BANK = Bank(view=View(width=16, height=16))


def main(quick: bool = False) -> None:
    """Both."""
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as scratch:
        place = Path(scratch)
        spec = make_spec(make_tokenizer(place / "tokenizer"))
        finished(place / "finished", spec, 6 if quick else 10)
        memory(place / "memory", spec, 4_000 if quick else 200_000)


def memory(folder: Path, spec: CaptionSpec, rows: int) -> None:
    """Caption ``rows`` images of a few hundred bytes against a stand-in server; prints resident memory."""
    store = ArtifactStore(folder / "root")
    dataset = _dataset(store, _images(folder, rows), bits=8)
    seen: list[int] = []
    process = psutil.Process()

    def look(what: str, done: int, total: int, detail: str) -> None:
        seen.append(process.memory_info().rss >> 20)

    with fake_server(0.02, 5000) as url:
        plan = plan_captions(store, dataset, spec, BANK)
        before = process.memory_info().rss >> 20
        stats = ask(store, plan, [url], folder / "scratch", on_progress=look)
    for ref in plan.shards.values():
        project_shard(store, store.require(ref), spec, BANK)
    quarter = max(1, len(seen) // 4)
    print(f"{rows:,} rows in 256 shards against a stand-in server: {stats.per_second:.0f}/s", end="")
    print(f"; resident MB before {before}, at a quarter {seen[quarter]}, at the end {seen[-1]}, peak {_peak()}")


def finished(folder: Path, spec: CaptionSpec, bits: int) -> None:
    """A root whose captions are all made, 1,000 rows a shard; times a plan and a run that finds all of it."""
    store = ArtifactStore(folder / "root")
    rows = 2**bits * 1000
    shards, captions = {}, []
    for number in range(2**bits):
        prefix = f"{number:0{bits}b}"
        shards[prefix] = shard = _finished_shard(store, prefix, 1000)
        captions.append(_finished_captions(store, shard, spec, 1000))
    dataset = _join(store, shards, bits, [])
    make_caption_set(store, dataset, captions)
    print(f"{rows:,} finished rows in {2**bits:,} shards:")
    plan = _timed("  a plan", lambda: plan_captions(store, dataset, spec, BANK))
    print(f"    {plan.up_to_date:,} rows up to date, {plan.to_ask} to ask")

    def again() -> Manifest:
        plan = plan_captions(store, dataset, spec, BANK)
        ask(store, plan, ["http://127.0.0.1:9"], folder / "scratch")
        made = [project_shard(store, store.require(ref), spec, BANK) for ref in plan.shards.values()]
        return make_caption_set(store, dataset, made)

    _timed("  a run that finds everything done", again)
    print(f"  peak resident {_peak()} MB")


def _timed(what: str, call: Callable[[], Any]) -> Any:
    start = time.monotonic()
    value = call()
    print(f"{what}: {time.monotonic() - start:.2f} s")
    return value


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _images(folder: Path, count: int) -> list[bytes]:
    """As many different images as asked for: one small PNG with other bytes behind its end mark."""
    image = next(write_images(folder / "one", 1).iterdir()).read_bytes()
    return [image + number.to_bytes(4, "big") for number in range(count)]


def _sample(key: str, size: int, offset: int) -> dict[str, Any]:
    facts = {"split": "train", "format": "PNG", "width": 16, "height": 16, "orientation": 1, "mode": "RGB"}
    return {"image_sha256": key, **facts, "bytes": size, "member": f"{key}.png", "offset": offset}


def _dataset(store: ArtifactStore, images: list[bytes], bits: int) -> Manifest:
    """Shards with real tars, without decoding anything."""
    groups: dict[str, list[tuple[str, bytes]]] = {}
    for data in images:
        key = hashlib.sha256(data).hexdigest()
        groups.setdefault(key_bits(key, bits), []).append((key, data))
    shards = {prefix: _shard(store, prefix, sorted(groups[prefix])) for prefix in sorted(groups)}
    return _join(store, shards, bits, [])


def _shard(store: ArtifactStore, prefix: str, members: list[tuple[str, bytes]]) -> Manifest:
    recipe = Recipe(kind="shard", stage="bench", params={"prefix": prefix, "members": len(members)})

    def build(folder: Path) -> dict[str, Any]:
        samples = []
        with ShardWriter(folder / "samples.tar") as tar:
            for key, data in members:
                _, offset = tar.write(key, "png", data, {})
                samples.append(_sample(key, len(data), offset))
        return {"rows": {"samples.parquet": write_table(folder / "samples.parquet", samples, SAMPLES)}}

    return store.build(recipe, build)[0]


def _join(store: ArtifactStore, shards: dict[str, Manifest], bits: int, names: list[dict[str, Any]]) -> Manifest:
    inputs = {f"shard/{prefix}": shard.ref for prefix, shard in shards.items()}
    recipe = Recipe(kind="dataset", stage="bench", inputs=inputs, params={"bits": bits})

    def build(folder: Path) -> dict[str, Any]:
        return {"rows": {"names.parquet": write_table(folder / "names.parquet", names, NAMES)}}

    return store.build(recipe, build)[0]


def _finished_shard(store: ArtifactStore, prefix: str, rows: int) -> Manifest:
    recipe = Recipe(kind="shard", stage="bench", params={"prefix": prefix, "members": rows})
    samples = [_sample(f"{prefix}{number:060d}"[:64].ljust(64, "0"), 400, 0) for number in range(rows)]

    def build(folder: Path) -> dict[str, Any]:
        (folder / "samples.tar").write_bytes(b"")
        return {"rows": {"samples.parquet": write_table(folder / "samples.parquet", samples, SAMPLES)}}

    return store.build(recipe, build)[0]


def _finished_captions(store: ArtifactStore, shard: Manifest, spec: CaptionSpec, rows: int) -> Manifest:
    recipe = captions_recipe(shard.ref, spec, BANK)
    row = {
        "view": "16x16-centre",
        "region": "centre-0.5",
        "view_json": "{}",
        "region_json": "{}",
        "spec_id": spec.spec_id,
        "centre": "red wolf",
        "surrounding": "snow, dusk",
        "total": "Center: red wolf; Surrounding: snow, dusk",
        "tokens_centre": 4,
        "tokens_surrounding": 5,
        "tokens_total": 13,
        "cut": "",
        "leak": [],
        "request_ids": [],
        "draws": [0],
    }
    prefix = shard.params["prefix"]
    captions = [{**row, "caption_id": f"{prefix}{n}", "image_sha256": f"{prefix}{n}"} for n in range(rows)]

    def build(folder: Path) -> dict[str, Any]:
        counts = {
            "captions.parquet": write_table(folder / "captions.parquet", captions, CAPTIONS),
            "rejects.parquet": write_table(folder / "rejects.parquet", [], CAPTION_REJECTS),
        }
        about = {"spec": spec.name, "spec_id": spec.spec_id, "answers": spec.answers_id, "segments": []}
        return {"rows": counts, "captions": rows, "rejected": 0, "reasons": {}, **about}

    return store.build(recipe, build)[0]
