"""Load a checkpoint's pipeline, quietly."""

from pathlib import Path

import torch

from schemas.errors import VipError
from vip.diffusion.load import quiet
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.diffusion.trusted import check_weights, loading


def load_outpainter(folder: Path) -> VIPOutpaintPipeline:
    """The pipeline of a folder, on the GPU where there is one.

    Raises:
        VipError: where it holds none.
    """
    if not (folder / "model_index.json").is_file():
        raise VipError(f"{folder} holds no pipeline", "give a checkpoint that `vip train` made, or its pipeline folder")
    with quiet(), loading(folder):
        pipeline = VIPOutpaintPipeline.from_pretrained(str(folder), dtype=torch.float32, use_safetensors=True)
        check_weights(folder, pipeline.components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
