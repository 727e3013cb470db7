"""Training states: everything a run needs to go on as if it had not stopped. Scratch, never an artifact."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from storage.lock import locked

KEPT = 2
"""Training states that are kept."""

_PREFIX = "step-"
_DRAFT = ".draft-"


@dataclass
class State:
    """One training state.

    Attributes:
        step: optimiser steps done.
        position: samples drawn by all processes; where the sampler goes on.
        tensors: name -> tensor; weights, optimiser moments, averages.
        values: what JSON can hold: learning-rate schedule, counters, losses so far.
    """

    step: int
    position: int
    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


def capture_rng() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The state of every global random generator of this process: torch (CPU and CUDA), NumPy and Python."""
    tensors = {"rng.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"rng.cuda.{place}": value for place, value in enumerate(torch.cuda.get_rng_state_all())}
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, inner, gauss_next = random.getstate()
    tensors["rng.numpy"] = torch.from_numpy(np.asarray(keys, np.int64))
    values = {
        "numpy": [str(kind), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(inner), gauss_next],
    }
    return tensors, values


def restore_rng(tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
    """Put back what :func:`capture_rng` took."""
    torch.set_rng_state(tensors["rng.torch"])
    if torch.cuda.is_available():
        saved = [tensors[name] for name in sorted(tensors) if name.startswith("rng.cuda.")]
        if len(saved) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(saved)
    kind, position, has_gauss, gauss = values["numpy"]
    keys = tensors["rng.numpy"].numpy().astype(np.uint32)
    np.random.set_state((kind, keys, position, has_gauss, gauss))
    version, inner, gauss_next = values["python"]
    random.setstate((version, tuple(inner), gauss_next))


class States:
    """The training states of one run in ``folder``.

    A state is written beside its final name, every file flushed to disk, its hashes last, and then renamed: it is there
    whole or not at all. Of those up to the one just written all but the newest :data:`KEPT` go; what lies beyond it is
    of a longer run, which may be gone on with. A lock is held meanwhile, so that trainings that share the folder
    neither write one step at once nor read what another removes, and a draft that is found is of a process that is
    gone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, folder / ".lock"
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, state: State) -> None:
        """Write ``state``, and drop the older ones that it makes needless."""
        with locked(self._lock):
            self._write(state)
            for old in self._up_to(state.step)[:-KEPT]:
                shutil.rmtree(old)

    def latest(self, at_most: int) -> State | None:
        """The newest state of no more than ``at_most`` steps whose files are whole, or None.

        Damaged ones are passed over, and those of a longer run, which has seen more than was asked for.
        """
        with locked(self._lock, shared=True):
            for folder in reversed(self._up_to(at_most)):
                state = _load(folder)
                if state is not None:
                    return state
        return None

    def _write(self, state: State) -> None:
        for left in self._folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(left)
        final, draft = self._place(state.step), self._folder / f"{_DRAFT}{os.getpid()}"
        draft.mkdir()
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.tensors.items()}
        save_file(tensors, draft / "tensors.safetensors")
        record = {"step": state.step, "position": state.position, "values": state.values}
        (draft / "state.json").write_text(json.dumps(record))
        hashes = {path.name: _sha256(path) for path in sorted(draft.iterdir())}
        (draft / "hashes.json").write_text(json.dumps(hashes))
        for path in [*draft.iterdir(), draft]:
            _flush(path)
        if final.exists():  # damaged, or written by another training beside this one
            shutil.rmtree(final)
        draft.rename(final)
        _flush(self._folder)

    def _up_to(self, step: int) -> list[Path]:
        last = self._place(step)
        return sorted(path for path in self._folder.iterdir() if path.name.startswith(_PREFIX) and path <= last)

    def _place(self, step: int) -> Path:
        return self._folder / f"{_PREFIX}{step:08d}"


def _load(folder: Path) -> State | None:
    try:
        hashes = json.loads((folder / "hashes.json").read_text())
        if any(_sha256(folder / name) != wanted for name, wanted in hashes.items()):
            return None
        record = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "tensors.safetensors")
        return State(record["step"], record["position"], tensors, record["values"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def pack_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[torch.Tensor, str]) -> dict[str, torch.Tensor]:
    """Moments and step counts of an optimiser, by parameter name."""
    return {
        f"optimizer.{names[parameter]}.{key}": value if torch.is_tensor(value) else torch.tensor(value)
        for parameter, slots in optimizer.state.items()
        for key, value in slots.items()
    }


def unpack_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Iterable[tuple[str, torch.nn.Parameter]],
    tensors: dict[str, torch.Tensor],
) -> None:
    """Put back what :func:`pack_optimizer` took."""
    for name, parameter in parameters:
        prefix = f"optimizer.{name}."
        slots = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        # AdamW keeps its step counts on the CPU and its moments beside the weights.
        optimizer.state[parameter] = {
            key: value.clone() if key == "step" else value.to(parameter.device) for key, value in slots.items()
        }
