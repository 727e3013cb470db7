"""View and region: which pixels, and which of them are known.

A *view* turns original bytes into an array of pixels; a *region* is a mask in the coordinates of that view,
1 = generate (the surrounding), 0 = keep (the centre), the convention of Stable Diffusion inpainting.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from schemas.canonical import canonical_json

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


class View(_Frozen):
    """Pixels of a given size, EXIF orientation applied, cropped to the aspect ratio (never squashed), then resized.

    Attributes:
        width, height: size in pixels, at least 8.
        crop: where the crop window lies along the axis that is too long.
    """

    width: int = Field(ge=8, le=8192)
    height: int = Field(ge=8, le=8192)
    crop: Literal["centre", "start", "end"] = "centre"

    @property
    def id(self) -> str:
        """A short name with every value that matters in it, such as ``64x64-centre``."""
        return f"{self.width}x{self.height}-{self.crop}"


class CentreRegion(_Frozen):
    """Keep a centred rectangle whose sides are ``keep`` times the sides of the view."""

    kind: Literal["centre"] = "centre"
    keep: float = Field(default=0.5, gt=0.0, lt=1.0)

    @property
    def id(self) -> str:
        """Such as ``centre-0.5``."""
        return f"centre-{_number(self.keep)}"


class SidesRegion(_Frozen):
    """Generate a band along each named side; every value is a share of that axis.

    A corner is two neighbouring sides.
    """

    kind: Literal["sides"] = "sides"
    left: Share = 0.0
    top: Share = 0.0
    right: Share = 0.0
    bottom: Share = 0.0

    @model_validator(mode="after")
    def _keeps_and_generates(self) -> "SidesRegion":
        if not any((self.left, self.top, self.right, self.bottom)):
            raise ValueError("all sides are 0, so nothing would be generated; give one side a share above 0")
        if self.left + self.right >= 1 or self.top + self.bottom >= 1:
            raise ValueError("opposite sides add up to 1 or more, so nothing would be kept; make them smaller")
        return self

    @property
    def id(self) -> str:
        """Such as ``sides-l0.25-t0-r0.25-b0``."""
        left, top, right, bottom = map(_number, (self.left, self.top, self.right, self.bottom))
        return f"sides-l{left}-t{top}-r{right}-b{bottom}"


class BrushRegion(_Frozen):
    """Generate irregular brush strokes, drawn from a seed, that cover about ``cover`` of the view."""

    kind: Literal["brush"] = "brush"
    seed: int = Field(default=0, ge=0, lt=2**63)
    cover: float = Field(default=0.5, gt=0.05, lt=0.95)

    @property
    def id(self) -> str:
        """Such as ``brush-0.5-s7``."""
        return f"brush-{_number(self.cover)}-s{self.seed}"


class FileRegion(_Frozen):
    """A mask of the user's own; white generates, black keeps.

    Attributes:
        path: where it lies on this machine; in no key.
        sha256: of the file.
    """

    kind: Literal["file"] = "file"
    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def id(self) -> str:
        """Such as ``file-0123456789abcdef``: named by content, never by path."""
        return f"file-{self.sha256[:16]}"


Region = Annotated[CentreRegion | SidesRegion | BrushRegion | FileRegion, Field(discriminator="kind")]

_REGION: TypeAdapter[Region] = TypeAdapter(Region)


def params_of(region: Region) -> dict[str, Any]:
    """What of a region goes into keys: all but where the file of a mask lies."""
    return region.model_dump(mode="json", exclude={"path"})


def region_json(region: Region) -> str:
    """Canonical JSON of a region for the columns that keep it whole; :func:`read_region` finds its mask again."""
    return canonical_json(params_of(region)).decode()


def read_region(text: str, masks: Mapping[str, str] | None = None) -> Region:
    """The region that a table holds.

    Args:
        text: of :func:`region_json`.
        masks: of :func:`masks_of`; only who renders a mask needs to know where its file lies.
    """
    value = json.loads(text)
    if value["kind"] == "file":
        value.setdefault("path", (masks or {}).get(value["sha256"], value["sha256"]))
    return _REGION.validate_python(value)


def masks_of(regions: Iterable[Region]) -> dict[str, str]:
    """Hash of a mask's file -> where it lies on this machine; stands in stats, which are in no key or digest."""
    return {region.sha256: region.path for region in regions if isinstance(region, FileRegion)}


def alike(captioned: Region, wanted: Region) -> bool:
    """Whether a captioned region is the wanted one; brush strokes have a seed for each image and match by cover.

    The id of a region is rounded, so that two regions with other masks may share it.
    """
    if isinstance(captioned, BrushRegion) and isinstance(wanted, BrushRegion):
        return captioned.cover == wanted.cover
    return params_of(captioned) == params_of(wanted)
