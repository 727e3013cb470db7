"""Trusted: a pipeline folder from anywhere is data: no pickle is opened, no code of it runs, no weight is made up."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from schemas.errors import VipError

REMEDY = "give a folder that `vip train` made, or another whole pipeline with .safetensors weights"
_LIBRARIES = {"diffusers", "transformers", "vip.diffusion.control"}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Check a local pipeline folder, and turn whatever a library says while it loads into one line.

    Raises:
        VipError: naming the folder and what is wrong with it.
    """
    if folder.is_dir():
        check_folder(folder)
    try:
        yield
    except VipError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise VipError(f"{folder} is no pipeline of ours: {first}", REMEDY) from error


def check_folder(folder: Path) -> None:
    """Look at a pipeline folder without opening anything that could run.

    Raises:
        VipError: where its index names other libraries than ours, a part has its weights only as pickle, or a
            safetensors file is damaged.
    """
    try:
        index = json.loads((folder / "model_index.json").read_bytes())
        parts = {name: value for name, value in index.items() if not name.startswith("_") and isinstance(value, list)}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise VipError(f"{folder}/model_index.json cannot be read: {_line(error)}", REMEDY) from error
    for name, value in parts.items():
        library = value[0] if value else None
        if library is not None and library not in _LIBRARIES:
            raise VipError(f"{folder}: part {name} would come from {str(library)[:80]!r}, which is not trusted", REMEDY)
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file()) if name.isidentifier() else []
        weights = [path for path in files if path.suffix == ".safetensors"]
        pickled = [path for path in files if path.suffix in _PICKLES]
        if pickled and not weights:
            raise VipError(f"{pickled[0]} is pickle, which can run code when it is opened", REMEDY)
        for path in weights:
            try:
                with safe_open(path, "pt") as tensors:
                    tensors.keys()
            except (SafetensorError, OSError) as error:
                raise VipError(f"{path} is no whole safetensors file: {_line(error)}", REMEDY) from error


def check_weights(folder: Path, parts: dict[str, Any]) -> None:
    """Every weight of every network came from the folder, and is a number.

    Args:
        folder: where the pipeline was loaded from.
        parts: name -> network, as ``pipeline.components``.

    Raises:
        VipError: naming the first weight that is missing or not finite.
    """
    for part, network in parts.items():
        if not isinstance(network, torch.nn.Module):
            continue
        stored = _stored(folder / part)
        for name, value in network.state_dict().items():
            if value.is_meta or (part == "text_encoder" and stored and not _named(name, stored)):
                raise VipError(f"{folder}: {part} lacks {name}, and would be made up", REMEDY)
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise VipError(f"{folder}: {name} of {part} is not finite", REMEDY)


def _stored(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            names.update(tensors.keys())
    return names


def _named(name: str, stored: set[str]) -> bool:
    """Whether a weight is stored, also under a name with or without the prefix that other versions of a library use."""
    return name in stored or any(other.endswith(f".{name}") or name.endswith(f".{other}") for other in stored)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
