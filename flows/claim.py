"""Claim: the paper's claim on nano models, from shards and captions to the page. ``vip claim``."""

from pathlib import Path

from prefect import flow

from flows.caption import caption
from flows.progress import reporting
from flows.shard import shard
from flows.tasks import open_store
from flows.train import Source, train
from schemas.bank import Bank
from schemas.claim_config import ClaimConfig
from schemas.manifest import Manifest
from schemas.region import BrushRegion, CentreRegion, Region, SidesRegion
from schemas.retrain_config import CaptionConfig
from schemas.sharding import ShardSettings
from schemas.train_config import TrainConfig
from storage.models import find_model, model_artifact
from vip.claim.arms import SPLIT
from vip.claim.page import write_page
from vip.claim.run import run_claim

_MIXTURE: tuple[Region, ...] = (CentreRegion(keep=0.5), SidesRegion(left=0.25, right=0.25), BrushRegion(cover=0.5))
"""What is captioned where an arm trains on a mixture, or the exam is of a mask that the others never saw."""


def _mixed(config: ClaimConfig) -> bool:
    return not {"glt", "glt_long"}.isdisjoint(config.arms) or config.evaluate.preset != "nano-centre"


@flow(name="claim")
def claim(root: str, source: str, config: ClaimConfig, out: str) -> str:
    """Shard and caption the scenes, train and examine every arm, write the page."""
    store = open_store(root)
    settings = ShardSettings(name="claim", samples_per_shard=512, test_share=0.2)
    dataset = shard(root, source, settings)
    view, region = config.evaluate.geometry
    regions = (region, *(one for one in _MIXTURE if one != region)) if _mixed(config) else (region,)
    specs = (config.spec, SPLIT) if "split" in config.arms else (config.spec,)
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
            {"oracle": store.require(captions[config.spec])},
            fit,
            progress,
        )
    return str(write_page(store, config, outcomes, base_folder, Path(out)))
