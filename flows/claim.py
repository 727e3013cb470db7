"""Claim: the paper's claim on nano models, from drawing the scenes to the page. ``make claim``."""

import argparse
import sys
from pathlib import Path

from prefect import flow

from flows.caption import caption
from flows.progress import reporting
from flows.shard import shard
from flows.tasks import open_store
from flows.train import Source, train
from schemas.bank import Bank
from schemas.claim_config import ABLATIONS, ARMS, ClaimConfig
from schemas.errors import VipError
from schemas.manifest import Manifest
from schemas.region import BrushRegion, CentreRegion, Region, SidesRegion
from schemas.retrain_config import CaptionConfig
from schemas.sharding import ShardSettings
from schemas.train_config import TrainConfig
from storage.models import find_model, model_artifact
from vip.claim.arms import JOINT, SPLIT
from vip.claim.page import write_page
from vip.claim.run import run_claim

_MIXTURE: tuple[Region, ...] = (CentreRegion(keep=0.5), SidesRegion(left=0.25, right=0.25), BrushRegion(cover=0.5))
"""What is captioned where an arm trains on a mixture, or the exam is of a mask that the others never saw."""


def _mixed(config: ClaimConfig) -> bool:
    return "glt" in config.arms or config.evaluate.preset != "nano-centre"


@flow(name="claim")
def claim(root: str, source: str, config: ClaimConfig, out: str) -> str:
    """Shard and caption the scenes, train and examine every arm, write the page."""
    store = open_store(root)
    settings = ShardSettings(name="claim", samples_per_shard=512, test_share=0.2)
    dataset = shard(root, source, settings)
    view, region = config.evaluate.geometry
    regions = (region, *(one for one in _MIXTURE if one != region)) if _mixed(config) else (region,)
    specs = (JOINT, SPLIT) if "split" in config.arms else (JOINT,)
    made = caption(root, dataset, Bank(view=view, regions=regions), CaptionConfig(), specs)
    captions = {spec: one.caption_set for spec, one in zip(specs, made, strict=True)}
    base_folder = find_model(config.train.base, "base")

    def fit(wanted: TrainConfig, spec: str) -> Manifest:
        return store.require(train(root, [Source("claim", dataset, captions[spec])], wanted))

    with reporting() as progress:
        outcomes = run_claim(
            store,
            config,
            model_artifact(store, config.train.base, base_folder),
            base_folder,
            store.require(dataset),
            {"oracle": store.require(captions[JOINT])},
            fit,
            progress,
        )
    return str(write_page(store, config, outcomes, base_folder, Path(out)))


def main(arguments: list[str] | None = None) -> None:
    """``python -m flows.claim``: resumable; what is made is found again."""
    parser = argparse.ArgumentParser(prog="python -m flows.claim", description=main.__doc__)
    parser.add_argument("--root", default="./.vip-claim")
    parser.add_argument("--out", default="docs", help="folder for claim.md and its pictures")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--images", type=int, default=256, help="in the exam")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default=",".join(ARMS), help=f"of {', '.join((*ARMS, *ABLATIONS))}")
    parser.add_argument("--against", default="plain", help="the arm that the others are compared with")
    parser.add_argument("--preset", default="nano-centre", help="of the exam; training keeps the centred half")
    given = parser.parse_args(arguments)

    from flows.cli.common import fail, validated
    from flows.run import local_run
    from vip.nano.dataset import write_scenes

    try:
        default = ClaimConfig()
        config = validated(
            ClaimConfig,
            "claim",
            arms=tuple(given.arms.split(",")),
            against=given.against,
            seeds=given.seeds,
            train=default.train.model_copy(update={"steps": given.steps, "regions": {"centre-0.5": 1.0}}),
            evaluate=default.evaluate.model_copy(update={"images": given.images, "preset": given.preset}),
        )
        with local_run(given.root):
            source = Path(given.root) / "scenes"
            write_scenes(source, given.scenes)
            page = claim(given.root, str(source), config, given.out)
    except VipError as error:
        fail(error)
    sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    main()
