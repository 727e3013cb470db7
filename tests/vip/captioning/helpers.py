"""A small dataset, a spec for the fake server, and the run from plan to caption set."""

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from schemas.bank import Bank
from schemas.region import CentreRegion, View
from schemas.sharding import ShardSettings
from schemas.spec import CaptionSpec, ModelIdentity
from storage.store import ArtifactStore
from vip.captioning.ask import ask
from vip.captioning.caption_set import make_caption_set
from vip.captioning.endpoint import ClientSettings
from vip.captioning.plan import plan_captions
from vip.captioning.project import project_shard
from vip.captioning.specs import resolve_tokenizer
from vip.sharding.build import shard_source

QUICK = ClientSettings(deadline=2.0, dead_after=1.0, stall=20.0, poll=0.1)
BANK = Bank(view=View(width=16, height=16), regions=(CentreRegion(),))


def write_images(folder: Path, count: int, seed: int = 0, size: int = 16) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}-{number:05d}.png")
    return folder


def make_dataset(store: ArtifactStore, folder: Path, name: str = "small", bits: int = 2):
    return shard_source(store, str(folder), ShardSettings(name=name, bits=bits), workers=1)


def make_tokenizer(folder: Path) -> Path:
    """A CLIP-shaped word tokenizer: begin and end tokens, a limit of 77."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    words = trainers.WordLevelTrainer(special_tokens=["<unk>", "<s>", "</s>"])
    tokenizer.train_from_iterator(["Center Surrounding wolf , ; :"], words)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))],
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def make_spec(tokenizer: Path, **changes) -> CaptionSpec:
    values = {
        "name": "test",
        "strategy": "joint",
        "model": ModelIdentity(id="fake", revision="a" * 64, server="vllm 0", declared=True),
        "templates": {
            "joint": "Describe.",
            "centre": "Describe the centre.",
            "surrounding": "Describe the surrounding.",
            "imagine": "Imagine.",
        },
        "tokenizer": resolve_tokenizer(str(tokenizer)),
    }
    return CaptionSpec.model_validate({**values, **changes})


def run(store, dataset, spec, endpoints, scratch, bank=BANK, round=0, settings=QUICK, **options):
    """Plan, ask, read: what the flow does. Returns (caption set, stats of asking)."""
    plan = plan_captions(store, dataset, spec, bank, round=round, scratch=scratch)
    stats = ask(store, plan, endpoints, scratch, settings=settings, **options)
    captions = [project_shard(store, store.require(ref), spec, bank, round) for ref in plan.shards.values()]
    return make_caption_set(store, dataset, captions), stats


def captions_of(store, caption_set):
    """Every caption row of a set, and every reject row."""
    from schemas.tables import CAPTION_REJECTS, CAPTIONS
    from storage.tables import read_table

    captions, rejects = [], []
    for ref in caption_set.inputs.values():
        manifest = store.require(ref)
        captions += read_table(store.read(manifest, "captions.parquet"), CAPTIONS).to_pylist()
        rejects += read_table(store.read(manifest, "rejects.parquet"), CAPTION_REJECTS).to_pylist()
    return captions, rejects


def shuffled(values, seed=0):
    values = list(values)
    random.Random(seed).shuffle(values)
    return values


def jpeg(size=(16, 16), seed=0):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()
