"""What callers pass as pictures and masks, as arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from schemas.errors import VipError
from schemas.region import View
from vip.regions.view import fit, flatten

_SLACK = 1e-3
"""How far beyond 0..1 the values of a picture may lie."""


def to_pixels(picture: Any) -> np.ndarray:
    """Pictures as uint8 of shape (B, H, W, 3).

    Takes a PIL image, an array of shape (H, W, 3) or (B, H, W, 3), a tensor of shape (3, H, W) or (B, 3, H, W), or a
    list of any of these; arrays and tensors are uint8 or hold values of 0..1.

    Raises:
        VipError: for other shapes or values, or pictures of different sizes.
    """
    return _stack([_one(item, 3) for item in _items(picture, 3)], "image")


def to_masks(mask: Any) -> np.ndarray:
    """Masks as uint8 of shape (B, H, W), 1 = generate; a value of at least one half (128 of 255) generates.

    Takes a PIL image, an array of shape (H, W) or (B, H, W), a tensor of shape (H, W), (1, H, W) or (B, 1, H, W), or a
    list.

    Raises:
        VipError: for other shapes, for masks of different sizes, and for a mask that generates nothing or keeps
        nothing.
    """
    masks = _stack([_one(item, 1) for item in _items(mask, 1)], "mask")
    for place, one in enumerate(masks):
        if not one.any():
            raise VipError(
                f"mask {place} keeps every pixel, so nothing would be generated", "paint what to generate white"
            )
        if one.all():
            raise VipError(f"mask {place} generates every pixel, so nothing is kept", "leave what to keep black")
    return masks


def resize(pixels: np.ndarray, masks: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Crop pictures and masks alike to the aspect ratio of ``width`` x ``height``, then resize them; never squashes."""
    if pixels.shape[1:3] == (height, width):
        return pixels, masks
    view = View(width=width, height=height)
    pictures = [np.asarray(fit(Image.fromarray(one), view)) for one in pixels]
    regions = [np.asarray(fit(Image.fromarray(one * 255), view)) >= 128 for one in masks]
    return np.stack(pictures), to_masks(np.stack(regions))


def _items(value: Any, channels: int) -> Sequence[Any]:
    if isinstance(value, Sequence):
        return value
    batched = 3 if channels == 1 and isinstance(value, np.ndarray) else 4
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim == batched:
        return list(value)
    return [value]


def _one(value: Any, channels: int) -> np.ndarray:
    if isinstance(value, Image.Image):
        if channels == 3:
            return np.asarray(flatten(value))
        return (np.asarray(value.convert("L")) >= 128).astype(np.uint8)
    if isinstance(value, torch.Tensor):
        value = (value.detach() if value.dtype == torch.uint8 else value.detach().float()).cpu().numpy()
        value = (
            value.transpose(1, 2, 0)
            if channels == 3 and value.ndim == 3
            else value.squeeze(0)
            if value.ndim == 3
            else value
        )
    array = np.asarray(value)
    if array.ndim != (3 if channels == 3 else 2) or (channels == 3 and array.shape[-1] != 3):
        raise VipError(
            f"a {'picture' if channels == 3 else 'mask'} of shape {array.shape} cannot be read",
            "give a PIL image, or an array of shape (H, W, 3) for pictures and (H, W) for masks",
        )
    if channels == 1:
        return (array >= (128 if array.dtype == np.uint8 and array.max(initial=0) > 1 else 0.5)).astype(np.uint8)
    if array.dtype == np.uint8:
        return array
    # Written so that NaN fails as well; what rounding leaves beyond either end is forgiven.
    if not (array.min(initial=0) >= -_SLACK and array.max(initial=1) <= 1 + _SLACK):
        raise VipError(
            f"a picture of {array.dtype} holds values of {array.min():g} to {array.max():g}",
            "give uint8 of 0 to 255, or floats of 0 to 1",
        )
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)


def _stack(arrays: list[np.ndarray], what: str) -> np.ndarray:
    if not arrays:
        raise VipError(f"no {what} was given", f"pass at least one {what}")
    sizes = {array.shape[:2] for array in arrays}
    if len(sizes) > 1:
        raise VipError(
            f"the {what}s have different sizes (height, width): {sorted(sizes)}", "bring them to one size first"
        )
    return np.stack(arrays)
