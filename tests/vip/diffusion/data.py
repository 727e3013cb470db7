"""A small captioned data set in the layout that the stages write."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
from diffusers import StableDiffusionInpaintPipeline
from PIL import Image

from schemas.bank import Bank
from schemas.manifest import Recipe
from schemas.prompt import total_prompt
from schemas.region import CentreRegion, View, region_json
from schemas.tables import CAPTIONS, SAMPLES
from schemas.training import ShardCaptions
from storage.shards import ShardWriter
from storage.tables import write_table
from tests.vip.diffusion.conftest import make_scheduler, make_text_encoder, make_tokenizer, make_unet, make_vae

VIEW = View(width=32, height=32)
CENTRE = (CentreRegion(),)
WORDS = ["wolf", "sea", "sky", "rock", "cat", "boat"]


def write_base(folder):
    tokenizer = make_tokenizer()
    StableDiffusionInpaintPipeline(
        vae=make_vae(),
        text_encoder=make_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=make_unet(),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def write_shards(folder, images=12, shards=2, regions=CENTRE, skip=(), test=(), dataset="images", seed=0):
    """``skip`` and ``test`` name images (by number) that get no caption, and that belong to the test split."""
    rng = np.random.default_rng(seed)
    made = []
    for shard in range(shards):
        place = folder / f"{dataset}-{shard}"
        place.mkdir(parents=True)
        samples, captions = [], []
        with ShardWriter(place / "samples.tar") as writer:
            for number in range(shard, images, shards):
                buffer = io.BytesIO()
                low = rng.integers(0, 256, (4, 5, 3), np.uint8)
                Image.fromarray(low).resize((50, 40)).save(buffer, "PNG")
                data = buffer.getvalue()
                key = hashlib.sha256(data).hexdigest()
                member, offset = writer.write(key, "png", data, {"image_sha256": key})
                samples.append(
                    {
                        "image_sha256": key,
                        "split": "test" if number in test else "train",
                        "format": "PNG",
                        "width": 50,
                        "height": 40,
                        "orientation": 1,
                        "mode": "RGB",
                        "bytes": len(data),
                        "member": member,
                        "offset": offset,
                    }
                )
                for _, region in Bank(view=VIEW, regions=regions).pairs(key):
                    centre, surrounding = WORDS[number % 6], f"{WORDS[(number + 2) % 6]}, {number}"
                    if number not in skip:
                        captions.append(_caption(key, region, centre, surrounding))
        write_table(place / "samples.parquet", samples, SAMPLES)
        write_table(place / "captions.parquet", captions, CAPTIONS)
        made.append(
            ShardCaptions(
                tar=str(place / "samples.tar"),
                samples=str(place / "samples.parquet"),
                captions=str(place / "captions.parquet"),
                dataset=dataset,
            )
        )
    return made


def publish(store, shards, regions=CENTRE, spec="spec"):
    """Put what :func:`write_shards` wrote into a store, as (shard, its captions)."""
    bank = Bank(view=VIEW, regions=regions)
    made, stats = [], {"bank": bank.model_dump(mode="json")}
    for shard in shards:
        files = [Path(shard.tar), Path(shard.samples)]
        recipe = Recipe(kind="shard", stage="build_shard", params={"prefix": Path(shard.tar).parent.name})
        held = store.build(recipe, lambda folder, files=files: _copy(files, folder))[0]
        params = {"spec": spec, "bank": bank.params, "round": 0}
        recipe = Recipe(kind="captions", stage="project_shard", inputs={"shard": held.ref}, params=params)
        rows = store.build(recipe, lambda folder, shard=shard: _copy([Path(shard.captions)], folder) | stats)[0]
        made.append((held.ref, rows.ref))
    return made


def _copy(files, folder):
    for file in files:
        shutil.copy(file, folder / file.name)
    return {}


def _caption(key, region, centre, surrounding):
    return {
        "caption_id": hashlib.sha256(f"{key}{region.id}".encode()).hexdigest()[:32],
        "image_sha256": key,
        "view": VIEW.id,
        "region": region.id,
        "view_json": VIEW.model_dump_json(),
        "region_json": region_json(region),
        "spec_id": "spec",
        "centre": centre,
        "surrounding": surrounding,
        "total": total_prompt(centre, surrounding),
        "tokens_centre": 3,
        "tokens_surrounding": 3,
        "tokens_total": 9,
        "cut": "",
        "leak": [],
        "request_ids": [],
        "draws": [],
    }
