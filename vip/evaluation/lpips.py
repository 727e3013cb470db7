"""LPIPS of the known part: how far it moved, to an eye rather than to a ruler."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from schemas.canonical import fingerprint, sha256_hex
from schemas.errors import VipError
from storage.store import sha256_file
from vip.evaluation.scorer import Shown
from vip.evaluation.weights import fill, read_weights

ALEXNET = "7be5be79"
"""First digits of the SHA-256 of torchvision's AlexNet, see :mod:`vip.evaluation.weights`."""

HEADS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
"""Of LPIPS's own linear layers on AlexNet, version 0.1, which the package torchmetrics carries."""

SMALLEST = 63
"""Pixels a side; below, AlexNet's last layer has no position left."""

_AFTER = (1, 4, 7, 9, 11)
"""The layers whose output is compared: the five ReLUs."""


class Lpips:
    """LPIPS (Zhang et al., 2018; version 0.1) on AlexNet.

    ``lpips_known_unpasted`` compares the picture as generated with the real one after the generated part was painted
    grey in both, as BrushNet measures it. The name is ``lpips-alex`` where the weights are torchvision's;
    with others it is a perceptual distance of that network.

    Args:
        weights: a ``.safetensors`` file with torchvision's names, ``features.0.weight`` and so on.

    Raises:
        VipError: where it is of another network, or torchmetrics lacks the linear layers.
    """

    units: Mapping[str, str] = {"lpips_known_unpasted": "LPIPS, 0 = identical"}

    def __init__(self, weights: Path) -> None:
        state, origin = read_weights(weights)
        self.name = "lpips-alex" if origin.startswith(ALEXNET) else "lpips-alex-other-weights"
        self.digest = fingerprint({"weights": sha256_file(weights), "heads": HEADS_SHA256, "hidden": "grey"})
        self.features = alexnet_features()
        own = {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}
        remedy = "give alexnet-owt-7be5be79.pth, converted by python -m vip.evaluation.weights"
        fill(self.features, own, weights, "AlexNet of torchvision", remedy)
        self.features.eval().requires_grad_(False)
        self._heads = _heads()
        self._shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        self._scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, shown: Shown) -> dict[str, list[float | None]]:
        """The distance of every picture's known part; None where the pictures are smaller than AlexNet can see."""
        if min(shown.masks.shape[1:]) < SMALLEST:
            return {"lpips_known_unpasted": [None] * len(shown.masks)}
        known = torch.from_numpy(shown.masks == 0)[:, None]
        real, made = (
            torch.where(known, torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, 0.0)
            for pixels in (shown.real, shown.unpasted)
        )
        return {"lpips_known_unpasted": [float(value) for value in self.distance(real, made)]}

    def distance(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """(n,) distances of pictures (n, 3, height, width) in [-1, 1]."""
        found = torch.zeros(len(first))
        pair = (torch.cat([first, second]) - self._shift) / self._scale
        heads = iter(self._heads)
        for number, layer in enumerate(self.features):
            pair = layer(pair)
            if number in _AFTER:
                # The constant under the root is torchmetrics'; the first release has it beside the root.
                unit = pair * torch.rsqrt(pair.square().sum(1, keepdim=True) + 1e-8)
                one, two = unit.chunk(2)
                found += F.conv2d((one - two).square(), next(heads)).mean((1, 2, 3))
        return found


def alexnet_features() -> nn.Sequential:
    """The convolutions of torchvision's AlexNet up to the last ReLU, without weights."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def _heads() -> list[torch.Tensor]:
    import torchmetrics.functional.image.lpips as kept

    path = Path(kept.__file__).parent / "lpips_models" / "alex.pth"
    if sha256_hex(path.read_bytes()) != HEADS_SHA256:
        raise VipError(f"{path} is not LPIPS's version 0.1", "run `make setup` again")
    # The package ships a .pth only. weights_only reads tensors and runs no code, and the hash was checked above.
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{number}.model.1.weight"] for number in range(len(_AFTER))]
