"""What precomputing saves: reading and encoding a batch in four ways, interleaved, beside the training step itself."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator

from bench._lineage_root import Synthetic, add_captions, add_dataset, make_spec
from schemas.manifest import ArtifactRef
from schemas.train_config import TrainConfig
from schemas.training import PrecomputeJob, ShardCaptions
from storage.models import nano_folder
from storage.store import ArtifactStore
from vip.diffusion.batch import Batch
from vip.diffusion.batches import Batches
from vip.diffusion.census import take_census
from vip.diffusion.encode import Encoded, Encoder
from vip.diffusion.learner import Learner
from vip.diffusion.load import load_pipeline
from vip.diffusion.precompute import place, precompute, recipes
from vip.diffusion.train import shape_of
from vip.nano.scene import make_scene
from vip.nano.truth import png
from vip.nano.world import draw

Pairs = list[tuple[ArtifactRef, ArtifactRef]]
"""(shard, its captions)."""

_CONFIG = TrainConfig(batch=8, precompute=("latents", "embeddings"))


def main(quick: bool = False) -> None:
    """The nano base on drawn scenes of 64 px; seconds of CPU of one thread a batch, medians over two epochs."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(Path(folder) / "root")
        pairs = _captioned(store, 32 if quick else 256)
        base = str(nano_folder("base"))
        job = {"root": store.backend.url, "run_id": "bench", "base": "nano", "base_dir": base, "progress": ""}
        seconds = _spent(lambda: precompute(PrecomputeJob(**job, config=_CONFIG, shards=tuple(pairs))))
        made = [one for kind in _CONFIG.precompute for one in store.list(kind)]
        held = sum(output.bytes for one in made for output in one.outputs.values())
        _compare(store, pairs, base, seconds, held)


def _compare(store: ArtifactStore, pairs: Pairs, base: str, seconds: float, held: int) -> None:
    pipe = load_pipeline(base, _CONFIG)
    plain = [place(store, *pair) for pair in pairs]
    census, shape = take_census(plain, _CONFIG), shape_of(pipe, _CONFIG)
    images = sum(census.counts)
    epoch = images // _CONFIG.batch
    read = []
    for data, found in zip(plain, recipes(store, "nano", Path(base), pairs, _CONFIG), strict=True):
        folders = {what: str(store.local(made)) for what, recipe in found.items() if (made := store.find(recipe))}
        read.append(data.model_copy(update=folders))

    def stream(shards: list[ShardCaptions], cache_mb: int, alone: bool) -> Iterator[tuple[Batch, Encoded]]:
        device = torch.device("cpu")
        encoder = Encoder(pipe.vae, pipe.tokenizer, pipe.text_encoder, device, cache_mb=cache_mb, alone=alone)
        return ((batch, encoder(batch)) for batch in Batches(shards, census, _CONFIG, shape))

    ways = {
        "each batch": stream(plain, 0, False),
        "memory": stream(plain, 512, True),
        "artifacts": stream(read, 0, True),
    }
    learner = Learner(pipe, _CONFIG, Accelerator(cpu=True))
    took: dict[str, list[float]] = {name: [] for name in (*ways, "step")}
    for _ in range(2 * epoch):
        for name, way in ways.items():
            latest: list[tuple[Batch, Encoded]] = []
            took[name].append(_spent(lambda way=way, latest=latest: latest.extend(itertools.islice(way, 1))))
        took["step"].append(_spent(lambda latest=latest: learner.advance(latest)))
    step = statistics.median(took["step"])
    print(f"{images} training images, precomputed in {seconds:.1f} s of CPU, {held / images / 1e6:.2f} MB an image")
    print(f"  the training step itself {step:.3f} s; reading and encoding a batch of {_CONFIG.batch}:")
    rows = {
        "each batch anew": took["each batch"],
        "memory, first epoch": took["memory"][:epoch],
        "memory, later": took["memory"][epoch:],
        "artifacts": took["artifacts"],
    }
    for name, values in rows.items():
        middle = statistics.median(values)
        print(f"  {name:20} {middle:.4f} s (a step with it: {(step + middle) / step:.2f}x)")


def _captioned(store: ArtifactStore, images: int) -> Pairs:
    root = Synthetic(store)
    add_dataset(root, "scenes", {f"{seed}.png": png(draw(make_scene(seed))) for seed in range(images)})
    add_captions(root, "scenes", "scenes", make_spec())
    return [(part.inputs["shard"], part.ref) for part in root.captions["scenes"]]


def _spent(work: Callable[[], object]) -> float:
    """Seconds of CPU, which other work on the machine does not stretch."""
    start = time.process_time()
    work()
    return time.process_time() - start
