"""Propose: a multimodal model looks at the picture and says what might stand around it."""

import io
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from schemas.canonical import canonical_json, sha256_hex
from schemas.errors import VipError
from schemas.region import FileRegion, View
from schemas.spec import CaptionSpec
from vip.captioning.images import data_url
from vip.captioning.parse import Reject, read_answer
from vip.captioning.request import RequestBuilder, request_body
from vip.captioning.specs import load_spec
from vip.outpaint.canvas import Canvas
from vip.serving.http import fetch
from vip.serving.identity import base_url, served_models

_IMAGE = "<<image>>"
SIDE = 448
"""Longer side, in pixels, of what a large model is shown."""


def imagining_spec(name: str, keywords: tuple[str, ...] = ()) -> CaptionSpec:
    """A spec that imagines, with keywords that the surrounding has to hold.

    Raises:
        VipError: where the spec does not imagine.
    """
    spec = load_spec(name)
    if spec.strategy != "imagine":
        raise VipError(f"spec {spec.name} has the strategy {spec.strategy}", "use one that imagines: nano-imagine")
    if not keywords:
        return spec
    template = spec.templates.get("imagine_keywords", spec.templates["imagine"])
    return spec.model_copy(update={"keywords": keywords, "templates": {**spec.templates, "imagine": template}})


def propose(
    endpoint: str, spec: CaptionSpec, canvas: Canvas, side: int = SIDE, timeout: float = 120.0
) -> tuple[str, str]:
    """Ask for the two texts of a canvas.

    Args:
        endpoint: base URL of an OpenAI-shaped server, asked for the first model it serves.
        spec: see :func:`imagining_spec`.
        canvas: whose unknown part is shown in even grey.
        side: longer side, in pixels, of what is shown.
        timeout: seconds.

    Returns:
        Centre and surrounding text.

    Raises:
        VipError: where the server does not answer, or not as the spec demands.
    """
    pixels, mask = _shown(canvas, side, spec.preprocessing.blank)
    view = View(width=mask.shape[1], height=mask.shape[0])
    with tempfile.TemporaryDirectory(prefix="vip-") as folder:
        path = Path(folder) / "mask.png"
        Image.fromarray(mask * np.uint8(255)).save(path)
        region = FileRegion(path=str(path), sha256=sha256_hex(path.read_bytes()))
        text = RequestBuilder(spec).text(view, region, "imagine")
    body = request_body(spec, served_models(endpoint)[0], text, "imagine", 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    url = data_url(buffer.getvalue(), "image/png").decode()
    answer = _post(endpoint, canonical_json(body).decode().replace(_IMAGE, url).encode(), timeout)
    try:
        choice = answer["choices"][0]
        said, finished = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as error:
        raise VipError(f"endpoint {endpoint} gave no chat answer", "give an OpenAI-shaped endpoint") from error
    found = read_answer(spec, "imagine", said, finished, None)
    if isinstance(found, Reject):
        raise VipError(
            f"the model's proposal cannot be used ({found.reason}): {str(said)[:80]!r}",
            "give --center and --surrounding",
        )
    return found.centre or "", found.surrounding or ""


def _shown(canvas: Canvas, side: int, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """The canvas at the size that is shown, its unknown part blanked, and its mask at that size."""
    height, width = canvas.mask.shape
    scale = side / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    mask = (np.asarray(Image.fromarray(canvas.mask * np.uint8(255)).resize(size, Image.Resampling.BOX)) >= 128).astype(
        np.uint8
    )
    if mask.all() or not mask.any():
        raise VipError("the known or the unknown part is too small to be shown to the model", "give the texts yourself")
    pixels = np.asarray(Image.fromarray(canvas.pixels).resize(size, Image.Resampling.LANCZOS))
    return np.where(mask[..., None] == 1, np.uint8(blank), pixels), mask


def _post(endpoint: str, body: bytes, timeout: float) -> dict:
    url = base_url(endpoint) + "/v1/chat/completions"
    try:
        return json.loads(fetch(url, body, timeout))
    except (ValueError, RecursionError) as error:
        raise VipError(f"endpoint {url} does not answer with JSON", "give an OpenAI-shaped endpoint") from error
