"""Load: a base, or one of our checkpoints, as a pipeline with C-T-S control."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from schemas.errors import VipError
from schemas.train_config import TrainConfig
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.diffusion.released import frozen_parts, is_released, load_released
from vip.diffusion.trusted import check_weights, loading


def load_pipeline(base: str, config: TrainConfig) -> VIPOutpaintPipeline:
    """The pipeline to train: an inpainting base with fresh branches, or a checkpoint that has them already.

    Checkpoints with branches are ours, and those of VIP's released code.

    Args:
        base: folder or hub id.
        config: says which branches, mask mode and prompt style; a checkpoint of ours has to agree. One of the released
            code holds no mask mode and takes that of the config.

    Raises:
        VipError: where ``base`` is no such pipeline, predicts what is not trained, or has other branches or another
            mask mode or prompt style.
    """
    folder = Path(base)
    with quiet(), loading(folder):
        if (folder / "control").is_dir():
            pipe = VIPOutpaintPipeline.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
        elif is_released(folder):
            pipe = load_released(folder, config.mask_mode)
        else:
            options = {"revision": config.revision} if config.revision else {}
            pipe = VIPOutpaintPipeline.from_base(
                base, config.branches, config.mask_mode, config.prompt_style, use_safetensors=True, **options
            )
        check_weights(folder, pipe.components)
    # Training reads these from the config, inference from the checkpoint.
    for name in ("branches", "mask_mode", "prompt_style"):
        made, asked = pipe.control.config[name], getattr(config, name)
        if made != asked:
            raise VipError(f"{base} has {name} {made}, the config says {asked}", f"set {name}: {made}")
    if config.prediction is not None and pipe.scheduler.config.get("prediction_type") != config.prediction:
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=config.prediction)
    if (predicted := pipe.scheduler.config.get("prediction_type")) not in ("epsilon", "v_prediction"):
        raise VipError(f"{base} predicts '{predicted}', which is not trained here", "set prediction: epsilon")
    return pipe


def load_frozen(folder: Path) -> dict[str, Any]:
    """The parts of a pipeline folder that are never trained: ``vae``, ``text_encoder`` and ``tokenizer``.

    Raises:
        VipError: where ``folder`` is no such pipeline.
    """
    with quiet(), loading(folder):
        parts = frozen_parts(folder)
        check_weights(folder, parts)
    return parts


@contextmanager
def quiet() -> Iterator[None]:
    """Loading and saving without the libraries' progress bars, which a log has no use for."""
    libraries = (diffusers_logging, transformers_logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, was in zip(libraries, shown, strict=True):
            if was:
                library.enable_progress_bar()
