"""Sharding against ``webdataset.ShardWriter`` on the same JPEGs, interleaved; the best of each is compared."""

import hashlib
import importlib.util
import io
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import webdataset
from PIL import Image

from schemas.sharding import ShardSettings
from storage.store import ArtifactStore
from vip.sharding.build import shard_source
from vip.sharding.scan import scan_source

SETTINGS = ShardSettings(bits=2)


def main(quick: bool = False) -> None:
    """Print images per second of each way, and the ratios that matter."""
    number, rounds = (200, 1) if quick else (4000, 3)
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as scratch:
        place = Path(scratch)
        size = _photographs(place / "source", number)
        print(f"{number} JPEGs of 512x512, {size / number / 1024:.0f} KiB each; images/s, best of {rounds}")
        ways: dict[str, Callable[[Path], None]] = {
            "webdataset.ShardWriter, sha256, nothing checked": lambda out: _webdataset(place / "source", out, False),
            "webdataset.ShardWriter, sha256, every image decoded": lambda out: _webdataset(place / "source", out, True),
            "vip: scan (read, hash, names)": lambda out: _scan(place / "source"),
            "vip: from nothing to a dataset, every image decoded": lambda out: _vip(place / "source", out),
            "vip: again, nothing changed": lambda out: _vip(place / "source", place / "kept"),
        }
        _vip(place / "source", place / "kept")
        best = dict.fromkeys(ways, 0.0)
        for turn in range(rounds):
            for name, way in ways.items():
                out = place / f"out-{turn}"
                started = time.perf_counter()
                way(out)
                best[name] = max(best[name], number / (time.perf_counter() - started))
                shutil.rmtree(out, ignore_errors=True)
    for name, rate in best.items():
        print(f"  {name:52} {rate:9,.0f}")
    bare, checked, _, cold, again = best.values()
    print(
        f"  like for like (decoded): {cold / checked:.2f} x webdataset.ShardWriter; unchecked it: {cold / bare:.2f} x"
    )
    print(f"  a second run: {again / bare:.2f} x webdataset.ShardWriter, which packs everything again")


def _photographs(folder: Path, number: int) -> int:
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.submodule_search_locations
    pictures = [
        Image.open(file).convert("RGB").resize((900, 600))
        for file in sorted((Path(spec.submodule_search_locations[0]) / "datasets" / "images").glob("*.jpg"))
    ]
    folder.mkdir()
    size = 0
    for one in range(number):
        left, top = one * 7 % 380, one * 13 % 80
        file = io.BytesIO()
        pictures[one % 2].crop((left, top, left + 512, top + 512)).save(file, "JPEG", quality=30 + one % 17)
        (folder / f"{one:06}.jpg").write_bytes(file.getvalue())
        size += len(file.getvalue())
    return size


def _webdataset(source: Path, out: Path, check: bool) -> None:
    out.mkdir()
    with webdataset.ShardWriter(str(out / "%06d.tar"), maxcount=1000, mtime=0, verbose=0) as sink:
        for path in sorted(source.iterdir()):
            data = path.read_bytes()
            meta = {"sha256": hashlib.sha256(data).hexdigest()}
            if check:
                with Image.open(io.BytesIO(data)) as image:
                    image.load()
                    meta |= {"width": str(image.width), "height": str(image.height)}
            sink.write({"__key__": meta["sha256"], "jpg": data, "json": meta})


def _scan(source: Path) -> None:
    scan_source(str(source), SETTINGS)


def _vip(source: Path, out: Path) -> None:
    shard_source(ArtifactStore(out), str(source), SETTINGS)
