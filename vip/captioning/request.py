"""Request: the exact body that is sent, and the identity under which its answer is kept."""

import json
from dataclasses import dataclass

from schemas.canonical import fingerprint, sha256_hex
from schemas.region import BrushRegion, CentreRegion, FileRegion, Region, SidesRegion, View
from schemas.spec import CaptionSpec, Part
from vip.captioning.images import image_name, original_url, rendered_url, sends_original
from vip.captioning.rows import Row

_IMAGE = "<<image>>"
SHORTER = "Use fewer words."
"""Added to the text of a request whose first answer was over budget, where the spec says ``over: reask``."""


@dataclass(frozen=True, slots=True)
class Template:
    """A body with a hole for the image, and the digest of all of it but the image."""

    head: bytes
    tail: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one image."""

    request_id: str
    row: Row
    part: Part
    draw: int
    shorter: bool
    template: Template

    def sends_original(self, spec: CaptionSpec) -> bool:
        """Whether the original bytes go out, so that nothing is decoded."""
        return sends_original(self.row.sample, self.row.view, self.part, spec.preprocessing)

    def body(self, data: bytes, spec: CaptionSpec) -> bytes:
        """The bytes to send for an image with the original bytes ``data``.

        Raises:
            OSError: where the image must be rendered and cannot be decoded.
        """
        row = self.row
        if self.sends_original(spec):
            url = original_url(data, row.sample)
        else:
            url = rendered_url(data, row.view, row.region, self.part, spec.preprocessing)
        return self.template.head + url + self.template.tail


class RequestBuilder:
    """Builds the requests of a resolved spec; holds one template for each wording."""

    def __init__(self, spec: CaptionSpec) -> None:
        self.spec = spec
        self.model_name = spec.model.served_name
        self._templates: dict[tuple[str, str, str, int, bool], Template] = {}

    def request(self, row: Row, part: Part, draw: int, shorter: bool = False) -> Request:
        """The request for one part of a row."""
        template = self._template(row.view, row.region, part, draw, shorter)
        name = image_name(row.sample, row.view, row.region, part, self.spec.preprocessing)
        identity = sha256_hex(f"{template.digest}:{name}".encode())
        return Request(identity, row, part, draw, shorter, template)

    def _template(self, view: View, region: Region, part: Part, draw: int, shorter: bool) -> Template:
        key = (view.id, region.id, part, draw, shorter)
        found = self._templates.get(key)
        if found is None:
            found = self._build(view, region, part, draw, shorter)
            # Brush regions differ from image to image: holding a template for each would grow with the rows.
            if not isinstance(region, BrushRegion):
                self._templates[key] = found
        return found

    def _build(self, view: View, region: Region, part: Part, draw: int, shorter: bool) -> Template:
        body = request_body(self.spec, self.model_name, self.text(view, region, part, shorter), part, draw)
        # The image comes before the text, which may hold the same mark.
        head, tail = json.dumps(body, separators=(",", ":"), ensure_ascii=False).split(_IMAGE, 1)
        identity = {"model": self.spec.model.model_dump(mode="json"), "body": body, "draw": draw}
        return Template(head.encode(), tail.encode(), fingerprint(identity))

    def text(self, view: View, region: Region, part: Part, shorter: bool = False) -> str:
        """The instruction of a part, its placeholders filled in."""
        text = self.spec.templates[part]
        if "{box}" in text:
            text = text.replace("{box}", kept_box(region, view))
        text = text.replace("{region}", describe_region(region)).replace("{keywords}", ", ".join(self.spec.keywords))
        return f"{text} {SHORTER}" if shorter else text


def request_body(spec: CaptionSpec, model_name: str, text: str, part: Part, draw: int) -> dict[str, object]:
    """The chat request as JSON values, the image's URL left open."""
    body: dict[str, object] = {
        "model": model_name,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": _IMAGE}},
                    {"type": "text", "text": text},
                ],
            }
        ],
        "max_tokens": spec.sampling.max_tokens,
        "temperature": spec.sampling.temperature,
        "top_p": spec.sampling.top_p,
        "seed": spec.sampling.seed + draw,
    }
    if part in spec.constraint:
        body["structured_outputs"] = spec.constraint[part]
    return body


def describe_region(region: Region) -> str:
    """What is kept, in words, for ``{region}``."""
    match region:
        case CentreRegion():
            return f"the central {round(region.keep * 100)}% of the width and height"
        case SidesRegion():
            sides = {"left": region.left, "top": region.top, "right": region.right, "bottom": region.bottom}
            bands = [f"{round(share * 100)}% at the {side}" for side, share in sides.items() if share]
            return f"everything but a band of {' and '.join(bands)}"
        case BrushRegion():
            return "what no brush stroke covers"
        case FileRegion():
            return "the part that the mask keeps"


def kept_box(region: Region, view: View) -> str:
    """The bounding box of the kept part in sixteenths of the view, for ``{box}``: left, top, right, bottom."""
    import numpy as np

    from vip.regions.mask import render_mask

    kept = render_mask(region, view) == 0
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    height, width = kept.shape
    edges = (
        columns[0] * 16 / width,
        rows[0] * 16 / height,
        (columns[-1] + 1) * 16 / width,
        (rows[-1] + 1) * 16 / height,
    )
    return " ".join(str(round(edge)) for edge in edges)
