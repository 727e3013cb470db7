"""What a second evaluation costs: the same exam again, the same pictures measured anew, and a second model."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from schemas.evaluate_config import EvaluateConfig
from schemas.manifest import Manifest
from schemas.sharding import ShardSettings
from storage.models import model_artifact, nano_folder
from storage.store import ArtifactStore
from vip.claim.arms import fresh_checkpoint
from vip.evaluation.evaluate import evaluate
from vip.nano.dataset import write_scenes
from vip.sharding.build import shard_source

STEPS = 1
"""Of the sampler: the fewest, so that sampling does not make the features look cheap."""


def main(quick: bool = False) -> None:
    """Nano's base without text on drawn scenes, against the same scenes; wall and CPU seconds of each run."""
    images = 40 if quick else 2000
    with tempfile.TemporaryDirectory(prefix="vip-bench-") as scratch:
        place = Path(scratch)
        store = ArtifactStore(place / "root")
        write_scenes(place / "scenes", images + images // 10)
        dataset = shard_source(store, str(place / "scenes"), ShardSettings(name="scenes", bits=1, test_share=0.99))
        folder = nano_folder("base")
        base = model_artifact(store, "nano", folder)
        first = fresh_checkpoint(store, base, folder, a=0.0)
        second = fresh_checkpoint(store, base, folder, a=1.0)
        config = EvaluateConfig(settings=("unconditional",), images=images, steps=STEPS, floor=False)
        anew = config.model_copy(update={"resamples": config.resamples + 1})

        def run(config: EvaluateConfig, checkpoint: Manifest) -> Callable[[], Manifest]:
            return lambda: evaluate(store, config, checkpoint, dataset, {})

        ways = {
            "first run": run(config, first),
            "the same exam again": run(config, first),
            "another statistic on the same pictures": run(anew, first),
            "a second model": run(config, second),
        }
        print(f"{images} images of 64 px, {STEPS} sampler steps, features by {config.network}")
        whole = None
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            made = way()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            whole = whole or (wall, cpu)
            assert made.stats["images"] == images
            shares = f"{wall / whole[0]:.4f} of the first's wall, {cpu / whole[1]:.4f} of its CPU"
            print(f"  {name:40} wall {wall:8.2f} s   CPU {cpu:8.2f} s   {shares}", flush=True)
