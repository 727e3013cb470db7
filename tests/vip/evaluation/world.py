"""A small world for exams: drawn pictures, their dataset, caption sets, and an untrained checkpoint of real parts."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from PIL import Image, ImageDraw
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from schemas.bank import Bank
from schemas.canonical import fingerprint
from schemas.manifest import Recipe
from schemas.sharding import ShardSettings
from schemas.tables import CAPTIONS, SAMPLES
from storage.tables import read_table, write_table
from vip.sharding.build import shard_source


def draw_pictures(folder, count=24, size=64):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    for number in range(count):
        image = Image.new("RGB", (size, size), tuple(int(value) for value in rng.integers(0, 256, 3)))
        draw = ImageDraw.Draw(image)
        for _ in range(4):
            x, y, side = (int(value) for value in rng.integers(4, size - 8, 3))
            draw.ellipse((x, y, x + side, y + side), fill=tuple(int(value) for value in rng.integers(0, 256, 3)))
        image.save(folder / f"{number:03}.png")
    return folder


def make_dataset(store, folder, test_share=0.5):
    return shard_source(store, str(folder), ShardSettings(name="drawn", bits=1, test_share=test_share), workers=1)


def make_captions(store, dataset, bank, kind="oracle", leave_out=()):
    """A caption set that names each image by digits of its key."""
    parts = {}
    for role, ref in dataset.inputs.items():
        shard = store.require(ref)
        rows = []
        for sample in read_table(store.read(shard, "samples.parquet"), SAMPLES).to_pylist():
            sha = sample["image_sha256"]
            for view, region in [] if sha in leave_out else bank.pairs(sha):
                rows.append(
                    {
                        "caption_id": fingerprint([sha, view.id, region.id, kind])[:32],
                        "image_sha256": sha,
                        "view": view.id,
                        "region": region.id,
                        "view_json": view.model_dump_json(),
                        "region_json": region.model_dump_json(),
                        "spec_id": kind,
                        "centre": f"{kind} ball {sha[:4]}",
                        "surrounding": f"{kind} field {sha[4:8]}",
                        "total": "",
                        "tokens_centre": 1,
                        "tokens_surrounding": 1,
                        "tokens_total": 1,
                        "cut": "",
                        "leak": [],
                        "request_ids": [],
                        "draws": [],
                    }
                )
        params = {"spec": kind, "bank": bank.model_dump(mode="json"), "out": sorted(leave_out)}
        recipe = Recipe(kind="captions", stage="test", inputs={"shard": ref}, params=params)
        build = lambda folder, rows=rows: {"rows": {"c": write_table(folder / "captions.parquet", rows, CAPTIONS)}}  # noqa: E731
        parts[f"captions/{role.removeprefix('shard/')}"] = store.build(recipe, build)[0].ref

    def summary(folder):
        (folder / "summary.json").write_text(fingerprint([ref.digest for ref in parts.values()]))
        return {}

    return store.build(Recipe(kind="caption_set", stage="test", inputs=parts, params={"spec_id": kind}), summary)[0]


def make_pipeline(seed=0, plain=False):
    """An untrained pipeline of real parts: 16 x 16 latents of 4 pixels."""
    from vip.diffusion.control import CTSControl
    from vip.diffusion.pipeline import VIPOutpaintPipeline

    torch.manual_seed(seed)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789:;,.-")
    words = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[], model_max_length=77)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    if plain:
        parts = (vae, text_encoder, tokenizer, unet, scheduler)
        return StableDiffusionInpaintPipeline(*parts, None, None, requires_safety_checker=False)
    control = CTSControl.from_unet(unet)
    for _, parameter in control.fusion():
        torch.nn.init.constant_(parameter, 0.5)
    parts = (vae, text_encoder, tokenizer, unet, control, scheduler)
    pipeline = VIPOutpaintPipeline(*(part.eval() if isinstance(part, torch.nn.Module) else part for part in parts))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_checkpoint(store, seed=0, steps=40):
    """An untrained pipeline, published as a training run would publish it."""
    pipeline = make_pipeline(seed)

    def build(folder):
        pipeline.save_pretrained(str(folder / "pipeline"))
        rng = np.random.default_rng(seed)
        table = pa.table(
            {
                "step": pa.array(range(1, steps + 1), pa.int64()),
                "loss": pa.array(1 / np.arange(1, steps + 1) ** 0.5 + rng.random(steps) * 0.1),
                "a": pa.array(
                    [[("down.1", 0.001 * n), ("up.0", -0.0005 * n)] for n in range(steps)],
                    pa.map_(pa.string(), pa.float64()),
                ),
            }
        )
        pq.write_table(table, folder / "losses.parquet")
        return {"steps": steps}

    return store.build(Recipe(kind="checkpoint", stage="test", params={"seed": seed}), build)[0]


def make_world(store, folder, bank=None, count=24):
    """(dataset, {"oracle": ..., "centre_only": ...}, checkpoint)."""
    bank = bank or Bank()
    dataset = make_dataset(store, draw_pictures(folder, count))
    prompts = {kind: make_captions(store, dataset, bank, kind) for kind in ("oracle", "centre_only")}
    return dataset, prompts, make_checkpoint(store)
