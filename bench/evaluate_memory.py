"""How the memory of an evaluation depends on the number of images: one process for each number, its peak measured."""

import subprocess
import sys
import tempfile
from pathlib import Path

from schemas.sharding import ShardSettings
from storage.store import ArtifactStore
from vip.nano.dataset import write_scenes
from vip.sharding.build import shard_source

_RUN = """
import resource, sys
from schemas.evaluate_config import EvaluateConfig
from schemas.manifest import Recipe
from storage.store import ArtifactStore
from vip.evaluation.evaluate import evaluate
store = ArtifactStore(sys.argv[1])
(dataset,) = store.list("dataset")
model = store.build(Recipe(kind="checkpoint", stage="bench"), lambda folder: {})[0]
config = EvaluateConfig(settings=("control:noise",), images=int(sys.argv[2]), floor=False)
assert evaluate(store, config, model, dataset, {}).stats["images"] == config.images
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
"""Noise needs no model; everything else is what any evaluation does."""


def main(quick: bool = False) -> None:
    """Peak resident memory of whole evaluations, features and all."""
    sizes = (16, 32) if quick else (256, 2048)
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as scratch:
        root = Path(scratch) / "root"
        write_scenes(Path(scratch) / "scenes", sizes[-1] + sizes[-1] // 10)
        settings = ShardSettings(name="scenes", bits=1, test_share=0.99)
        shard_source(ArtifactStore(root), str(Path(scratch) / "scenes"), settings)
        first = None
        for images in sizes:
            command = [sys.executable, "-c", _RUN, str(root), str(images)]
            peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
            first = first or peak
            print(f"  {images:6} images: peak {peak:5} MB, {peak / first:.3f} of the first's", flush=True)
