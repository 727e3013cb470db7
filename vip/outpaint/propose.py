"""Propose: a multimodal model looks at the picture and says what might stand around it."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from schemas.canonical import canonical_json, sha256_hex
from schemas.errors import VipError
from schemas.region import FileRegion, View
from schemas.spec import CaptionSpec
from vip.captioning.images import data_url
from vip.captioning.parse import Reject, read_answer
from vip.captioning.reply import read_chat
from vip.captioning.request import RequestBuilder, request_body
from vip.captioning.specs import load_spec, resolve_model
from vip.outpaint.canvas import Canvas
from vip.serving.engine import engine_for
from vip.serving.http import fetch
from vip.serving.identity import base_url, served_models

_IMAGE = "<<image>>"
SIDE, NANO_SIDE = 448, 64
"""Longer side, in pixels, of what a large model is shown, and of what the nano captioner was trained on."""

SMALL, LARGE = "nano-imagine", "qwen-imagine"
"""Specs that imagine: for the captioner that comes with the package, and for models that read plain English."""


class Proposal(NamedTuple):
    """What a model proposed.

    Attributes:
        center, surrounding: the two texts.
        model: who it was, as served; our own server puts the weights digest into the name.
        spec: by which it was asked.
    """

    center: str
    surrounding: str
    model: str
    spec: str


class Proposer(NamedTuple):
    """Whom to ask for the texts that a user did not give.

    Attributes:
        log: of a server of our own.
        endpoint: base URL of a server that runs; without one a vLLM of our own is started, asked, and stopped.
        spec: how to ask; None takes the spec for the model that answers.
        keywords: what the surrounding must hold.
        say: told that a server is being started, which takes a while.
    """

    log: Path
    endpoint: str | None = None
    spec: str | None = None
    keywords: tuple[str, ...] = ()
    say: Callable[[str], None] | None = None

    def __call__(self, canvas: Canvas) -> Proposal:
        """Ask about a canvas.

        Raises:
            VipError: where nobody can be asked, or what is answered cannot be used.
        """
        if self.endpoint is not None:
            spec = imagining_spec(self.spec or _spec_for(_asked(self.endpoint)), self.keywords)
            return propose(self.endpoint, spec, canvas)
        spec = imagining_spec(self.spec or SMALL, self.keywords)
        try:
            spec = spec.model_copy(update={"model": resolve_model(spec.model, None, None)})
            engine = engine_for(spec, self.log)
        except VipError as error:
            raise VipError(
                f"nothing says what to generate, and no model can be asked: {error.reason}",
                "give --surrounding (and --center), or --endpoint" + (f", or {error.remedy}" if error.remedy else ""),
            ) from error
        if self.say is not None:
            self.say(f"starting vLLM for {spec.model.id} to look at the picture (half a minute on two cores)")
        with engine:
            return propose(engine.endpoint, spec, canvas)


def _asked(endpoint: str) -> str:
    """The model that is asked: the first that the endpoint serves."""
    served = served_models(endpoint)
    if not served:
        raise VipError(f"endpoint {endpoint} serves no model", "give one that does, such as that of `vip serve`")
    return served[0]


def _spec_for(served: str) -> str:
    """The spec whose wording a served model understands: the small captioner its own, any other plain English."""
    return SMALL if served.partition("@")[0] == "nano" else LARGE


def imagining_spec(name: str, keywords: tuple[str, ...] = ()) -> CaptionSpec:
    """A spec that imagines, with keywords that the surrounding has to hold.

    Raises:
        VipError: where the spec does not imagine.
    """
    spec = load_spec(name)
    if spec.strategy != "imagine":
        raise VipError(f"spec {spec.name} has the strategy {spec.strategy}", f"use one that imagines: {SMALL}, {LARGE}")
    if not keywords:
        return spec
    template = spec.templates.get("imagine_keywords", spec.templates["imagine"])
    return spec.model_copy(update={"keywords": keywords, "templates": {**spec.templates, "imagine": template}})


def propose(endpoint: str, spec: CaptionSpec, canvas: Canvas, timeout: float = 120.0) -> Proposal:
    """Ask for the two texts of a canvas.

    Args:
        endpoint: base URL of an OpenAI-shaped server, asked for the first model it serves.
        spec: see :func:`imagining_spec`.
        canvas: whose unknown part is shown in even grey, at the size that the model was trained on where it is nano,
            else at most ``SIDE`` pixels wide and high.
        timeout: seconds.

    Raises:
        VipError: where the server does not answer, or not as the spec demands.
    """
    pixels, mask = _shown(canvas, NANO_SIDE if spec.model.id == "nano" else SIDE, spec.preprocessing.blank)
    view = View(width=mask.shape[1], height=mask.shape[0])
    with tempfile.TemporaryDirectory(prefix="vip-") as folder:
        path = Path(folder) / "mask.png"
        Image.fromarray(mask * np.uint8(255)).save(path)
        region = FileRegion(path=str(path), sha256=sha256_hex(path.read_bytes()))
        text = RequestBuilder(spec).text(view, region, "imagine")
    model = _asked(endpoint)
    body = request_body(spec, model, text, "imagine", 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    url = data_url(buffer.getvalue(), "image/png").decode()
    sent = canonical_json(body).decode().replace(_IMAGE, url, 1).encode()
    raw = fetch(base_url(endpoint) + "/v1/chat/completions", sent, timeout)
    try:
        _, said, finished = read_chat(raw)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise VipError(f"endpoint {endpoint} gave no chat answer", "give an OpenAI-shaped endpoint") from error
    found = read_answer(spec, "imagine", said, finished, None)
    if isinstance(found, Reject):
        raise VipError(
            f"the model's proposal cannot be used ({found.reason}): {str(said)[:80]!r}",
            "give --center and --surrounding",
        )
    return Proposal(found.centre or "", found.surrounding or "", model, spec.name)


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
