"""Find a checkpoint's pipeline, and load it quietly."""

from pathlib import Path
from typing import Any

import torch

from schemas.errors import VipError
from schemas.manifest import Manifest
from vip.diffusion.load import quiet
from vip.diffusion.pipeline import VIPOutpaintPipeline
from vip.diffusion.trusted import check_weights, loading


def find_outpainter(root: str, name: str) -> tuple[Path, dict[str, Any]]:
    """The pipeline's folder, and how a lineage names it.

    Args:
        root: URL of the artifact store.
        name: a ref, an id, or a folder that holds a pipeline.

    Raises:
        VipError: where nothing is called so, or it was removed.
    """
    if (Path(name) / "model_index.json").is_file():
        return Path(name), {"folder": Path(name).resolve().name}
    from storage.store import ArtifactStore
    from vip.lineage.index import open_index
    from vip.lineage.resolve import resolve_artifact

    index = open_index(root)
    try:
        row = resolve_artifact(index, name, ("checkpoint",))
    finally:
        index.close()
    store = ArtifactStore(root)
    manifest = store.get("checkpoint", row["key"])
    if manifest is None:
        raise VipError(f"checkpoint {name} was removed", "give another")
    return store.local(manifest) / pipeline_folder(manifest), manifest.ref.model_dump(mode="json")


def pipeline_folder(checkpoint: Manifest) -> str:
    """Where the diffusers pipeline lies inside a checkpoint.

    Raises:
        VipError: where it holds none.
    """
    for name in checkpoint.outputs:
        if name == "model_index.json" or name.endswith("/model_index.json"):
            return name.removesuffix("model_index.json")
    raise VipError(f"{checkpoint.kind} {checkpoint.key[:12]} holds no pipeline", "give a checkpoint that training made")


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
