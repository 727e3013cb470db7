"""Inception v3 as FID was defined with it: TensorFlow's weights of 2015-12-05, in the layout of their PyTorch port."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from schemas.canonical import fingerprint
from storage.store import sha256_file
from vip.evaluation.network import Features
from vip.evaluation.weights import fill, read_weights

PORT = "6726825d"
"""First digits of the SHA-256 of the port of TensorFlow's weights, see :mod:`vip.evaluation.weights`."""

SIZE = 299

Size = int | tuple[int, int]
Layers = Mapping[str, tuple[int, int, Size]]
"""Name -> channels in, channels out, kernel; a layer pads so that the size stays, or not at all at stride 2."""


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: Size, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) -> (n, out, ...)."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Paths that run side by side and are laid one behind the other.

    Args:
        layers: what there is.
        paths: names of layers and poolings (``average``, ``maximum``, ``halve``), applied in turn; a tuple at the end
            of a path is a fork.
        halves: the layers whose stride is 2.
    """

    def __init__(self, layers: Layers, paths: tuple[Any, ...], halves: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.paths = paths
        for name, (channels, out, kernel) in layers.items():
            sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
            half = name in halves
            padding = (0, 0) if half else (sides[0] // 2, sides[1] // 2)
            self.add_module(name, Conv(channels, out, kernel, 2 if half else 1, padding))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) -> (n, sum of the paths' channels, ...)."""
        return torch.cat([self._follow(path, x) for path in self.paths], dim=1)

    def _follow(self, path: tuple[Any, ...], x: torch.Tensor) -> torch.Tensor:
        for step in path:
            if isinstance(step, tuple):
                x = torch.cat([self.get_submodule(name)(x) for name in step], dim=1)
            elif step == "average":
                x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            elif step == "maximum":
                x = F.max_pool2d(x, 3, 1, 1)
            elif step == "halve":
                x = F.max_pool2d(x, 3, 2)
            else:
                x = self.get_submodule(step)(x)
        return x


def _a(channels: int, pool: int) -> Mixed:
    layers: dict[str, tuple[int, int, Size]] = {
        "branch1x1": (channels, 64, 1),
        "branch5x5_1": (channels, 48, 1),
        "branch5x5_2": (48, 64, 5),
        "branch3x3dbl_1": (channels, 64, 1),
        "branch3x3dbl_2": (64, 96, 3),
        "branch3x3dbl_3": (96, 96, 3),
        "branch_pool": (channels, pool, 1),
    }
    double = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return Mixed(layers, (("branch1x1",), ("branch5x5_1", "branch5x5_2"), double, ("average", "branch_pool")))


def _b(channels: int) -> Mixed:
    layers: dict[str, tuple[int, int, Size]] = {
        "branch3x3": (channels, 384, 3),
        "branch3x3dbl_1": (channels, 64, 1),
        "branch3x3dbl_2": (64, 96, 3),
        "branch3x3dbl_3": (96, 96, 3),
    }
    double = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    return Mixed(layers, (("branch3x3",), double, ("halve",)), ("branch3x3", "branch3x3dbl_3"))


def _c(channels: int, inner: int) -> Mixed:
    layers: dict[str, tuple[int, int, Size]] = {
        "branch1x1": (channels, 192, 1),
        "branch7x7_1": (channels, inner, 1),
        "branch7x7_2": (inner, inner, (1, 7)),
        "branch7x7_3": (inner, 192, (7, 1)),
        "branch7x7dbl_1": (channels, inner, 1),
        "branch7x7dbl_2": (inner, inner, (7, 1)),
        "branch7x7dbl_3": (inner, inner, (1, 7)),
        "branch7x7dbl_4": (inner, inner, (7, 1)),
        "branch7x7dbl_5": (inner, 192, (1, 7)),
        "branch_pool": (channels, 192, 1),
    }
    seven = ("branch7x7_1", "branch7x7_2", "branch7x7_3")
    double = tuple(f"branch7x7dbl_{number}" for number in range(1, 6))
    return Mixed(layers, (("branch1x1",), seven, double, ("average", "branch_pool")))


def _d(channels: int) -> Mixed:
    layers: dict[str, tuple[int, int, Size]] = {
        "branch3x3_1": (channels, 192, 1),
        "branch3x3_2": (192, 320, 3),
        "branch7x7x3_1": (channels, 192, 1),
        "branch7x7x3_2": (192, 192, (1, 7)),
        "branch7x7x3_3": (192, 192, (7, 1)),
        "branch7x7x3_4": (192, 192, 3),
    }
    seven = tuple(f"branch7x7x3_{number}" for number in range(1, 5))
    return Mixed(layers, (("branch3x3_1", "branch3x3_2"), seven, ("halve",)), ("branch3x3_2", "branch7x7x3_4"))


def _e(channels: int, pool: str) -> Mixed:
    layers: dict[str, tuple[int, int, Size]] = {
        "branch1x1": (channels, 320, 1),
        "branch3x3_1": (channels, 384, 1),
        "branch3x3_2a": (384, 384, (1, 3)),
        "branch3x3_2b": (384, 384, (3, 1)),
        "branch3x3dbl_1": (channels, 448, 1),
        "branch3x3dbl_2": (448, 384, 3),
        "branch3x3dbl_3a": (384, 384, (1, 3)),
        "branch3x3dbl_3b": (384, 384, (3, 1)),
        "branch_pool": (channels, 192, 1),
    }
    single = ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b"))
    double = ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b"))
    return Mixed(layers, (("branch1x1",), single, double, (pool, "branch_pool")))


class Inception(nn.Module):
    """The network; names are those of the port's state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_c(768, inner) for inner in (128, 160, 160, 192))
        self.Mixed_7a = _d(768)
        # The last block pools by maximum where all others average: so does the graph that FID was defined with.
        self.Mixed_7b, self.Mixed_7c = _e(1280, "average"), _e(2048, "maximum")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3, 299, 299) in [-1, 1] -> pool features (n, 2048) and logits without bias (n, 1008)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = self.get_submodule(f"Mixed_{name}")(x)
        pooled = x.mean((2, 3))
        return pooled, pooled @ self.fc.weight.T


class InceptionV3:
    """Inception v3 with weights given by path.

    The features are those of FID where the weights are the port's, unchanged; only then is the name
    ``inception-v3-fid``. Pixels are resized to 299 x 299 (bilinear, not antialiased) and brought to [-1, 1], as
    pytorch-fid does, whose figures the outpainting papers give. ``logits`` are without bias, as the Inception Score was
    defined.

    Args:
        weights: a ``.safetensors`` file with the port's names.

    Raises:
        VipError: where the file is missing, no safetensors, or of another network.
    """

    def __init__(self, weights: Path) -> None:
        state, origin = read_weights(weights)
        self.name = "inception-v3-fid" if origin.startswith(PORT) else "inception-v3"
        self.digest = fingerprint(
            {"weights": sha256_file(weights), "size": SIZE, "resize": "bilinear", "scale": "-1..1"}
        )
        self._net = Inception()
        remedy = "give the converted port of TensorFlow's weights of 2015-12-05"
        fill(self._net, state, weights, "Inception v3 of FID", remedy)
        self._net.eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> Features:
        """Features of uint8 pixels of shape (n, height, width, 3), RGB."""
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
        batch = F.interpolate(batch, (SIZE, SIZE), mode="bilinear", align_corners=False)
        pooled, logits = self._net(2 * batch - 1)
        return Features(pooled.numpy(), logits.numpy())
