"""Weights of measuring networks: safetensors by path, and the one safe way there from the pickles they come as."""

import argparse
import sys
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from schemas.errors import VipError
from storage.store import sha256_file

ORIGIN = "source_sha256"
"""Key of the safetensors metadata that holds the hash of the file that was converted."""

KNOWN = {
    "6726825d": "pt_inception-2015-12-05-6726825d.pth",
    "7be5be79": "alexnet-owt-7be5be79.pth",
}
"""First digits of the SHA-256, which the file's own name carries, and the name: FID's Inception v3 in the port that
pytorch-fid and torch-fidelity share, and the AlexNet of torchvision that LPIPS was fitted on."""


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a safetensors file, and the hash of the file they were converted from, empty where none is said.

    Raises:
        VipError: where it is none.
    """
    try:
        with safe_open(path, "pt") as file:
            origin = cast(dict[str, str], file.metadata() or {}).get(ORIGIN, "")
            return {name: file.get_tensor(name) for name in file.keys()}, origin  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise VipError(
            f"weights {path} cannot be read: {error}",
            f"give a .safetensors file; from a known pickle: python -m vip.evaluation.weights {path.name} OUT",
        ) from error


def fill(net: nn.Module, state: dict[str, torch.Tensor], weights: Path, what: str, remedy: str) -> None:
    """Put ``state``, read from ``weights``, into ``net``.

    Raises:
        VipError: where it is of another network than ``what``, with the first thing that differs.
    """
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise VipError(f"{weights} is no {what}: {str(error).splitlines()[1].strip()}", remedy) from error


def convert(pickled: Path, target: Path) -> None:
    """Write one of the known files as safetensors that say where they come from.

    The pickle's hash is checked first, and nothing in it is run.

    Raises:
        VipError: where it is another file.
    """
    try:
        digest = sha256_file(pickled)
    except OSError as error:
        raise VipError(f"{pickled} cannot be read: {error.strerror}", "give the path of the downloaded file") from error
    if digest[:8] not in KNOWN:
        raise VipError(f"{pickled} has the unknown hash {digest[:8]}", f"give one of: {', '.join(KNOWN.values())}")
    state = torch.load(pickled, map_location="cpu", weights_only=True)
    save_file({name: value.contiguous() for name, value in state.items()}, target, {ORIGIN: digest})


def main() -> None:
    """``python -m vip.evaluation.weights PICKLE OUT.safetensors``."""
    parser = argparse.ArgumentParser(prog="python -m vip.evaluation.weights", description=convert.__doc__)
    parser.add_argument("pickled", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    try:
        convert(given.pickled, given.target)
    except VipError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
