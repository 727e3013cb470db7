"""Bank: the finite, seeded (view, region) pairs that each image is captioned, trained and examined with."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.canonical import sha256_hex
from schemas.region import BrushRegion, CentreRegion, Region, View, params_of


class Bank(BaseModel):
    """One view and one or more regions; SFT has one region, GLT several.

    Irregular regions get a seed of their own for each image, so that no two images share a stroke.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    view: View = View(width=64, height=64)
    regions: tuple[Region, ...] = Field(default=(CentreRegion(),), min_length=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _told_apart(self) -> "Bank":
        named: dict[str, dict[str, Any]] = {}
        for region in self.regions:
            if named.setdefault(region.id, params_of(region)) != params_of(region):
                raise ValueError(f"two regions are both called {region.id}; make them differ by 0.0001 or more")
        return self

    def pairs(self, image_sha256: str) -> list[tuple[View, Region]]:
        """The pairs of one image, always the same for the same bank and image."""
        return [(self.view, self._of_image(place, region, image_sha256)) for place, region in enumerate(self.regions)]

    @property
    def params(self) -> dict[str, Any]:
        """What goes into keys; where the file of a mask lies does not."""
        return {**self.model_dump(mode="json"), "regions": [params_of(region) for region in self.regions]}

    def _of_image(self, place: int, region: Region, image_sha256: str) -> Region:
        if not isinstance(region, BrushRegion):
            return region
        seed = int(sha256_hex(f"{self.seed}/{place}/{region.seed}/{image_sha256}".encode())[:12], 16)
        return region.model_copy(update={"seed": seed})
