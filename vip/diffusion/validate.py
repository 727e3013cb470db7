"""Validate: grids of pictures painted during training, for people to look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from schemas.train_config import TrainConfig
from schemas.training import ShardCaptions
from vip.diffusion.batch import Shape
from vip.diffusion.batches import Batches
from vip.diffusion.census import Census
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.diffusion.prompt import parse_prompt

_GREY = 128


def paint_grid(
    pipe: VIPOutpaintPipeline,
    shards: Sequence[ShardCaptions],
    census: Census,
    config: TrainConfig,
    shape: Shape,
    accelerator: Accelerator,
    path: Path,
) -> None:
    """Write a PNG with one row a sample: original, what is kept, what was painted.

    The samples are always the first ones of the run, with their own captions or those of the config, and fixed noise,
    so that grids of different steps can be compared. Global random state is left as it was.
    """
    if not accelerator.is_main_process:
        return
    pipe.to(accelerator.device)  # where all is precomputed, the frozen networks never went there
    wanted = config.validation
    shards = [shard.model_copy(update={"latents": None, "embeddings": None}) for shard in shards]
    fixed = config.model_copy(update={"batch": wanted.samples, "dropout": 0.0, "half_dropout": 0.0})
    batch = next(iter(Batches(shards, census, fixed, shape)))
    pixels = cast(torch.Tensor, batch.pixels).numpy()
    own = [parse_prompt(prompt.total) for prompt in batch.prompts]
    pairs = [wanted.prompts[place % len(wanted.prompts)] for place in range(wanted.samples)] if wanted.prompts else own
    pipe.set_progress_bar_config(disable=True)
    with accelerator.autocast():
        painted = pipe(
            image=list(pixels),
            mask_image=list(batch.masks[:, 0].numpy().astype(np.uint8)),
            num_inference_steps=wanted.inference_steps,
            guidance_scale=wanted.guidance,
            generator=[torch.Generator().manual_seed(wanted.seed + place) for place in range(wanted.samples)],
            center_prompt=[pair[0] for pair in pairs],
            surrounding_prompt=[pair[1] for pair in pairs],
            output_type="np",
            return_dict=False,
        )[0]
    kept = np.where(batch.masks[:, 0, :, :, None].numpy() > 0, _GREY, pixels).astype(np.uint8)
    columns = [pixels, kept, np.rint(painted * 255).astype(np.uint8)]
    grid = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(path)
