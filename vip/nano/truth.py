"""What is true of a scene under a mask, in words: which of them belong to the centre and which to the surrounding.

The rule, which anyone can check on the map of owners:

1. A thing (the subject too) belongs to the half that holds more than half of its visible pixels; at exactly half, to
   the surrounding.
2. Terrain and time of day belong to the surrounding if at least a tenth of the generated pixels show ground
   (terrain) or sky (time); otherwise to the centre. The weather is everywhere and belongs to the surrounding.
3. A centre left without a word is named by the terrain or the time, whichever fills more of it.

Words stand in a fixed order: subject, terrain, time, weather, then things left, right, above, below.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from schemas.region import View
from vip.nano.scene import SIZE, Scene
from vip.nano.world import GROUND, OWNERS, SKY, SUBJECT, owner_map

SCENERY_SHARE = 0.1


@dataclass(frozen=True)
class Truth:
    """Phrases of the two halves, such as ``("red house",)`` and ``("meadow", "noon", "rain", "birds above")``."""

    centre: tuple[str, ...]
    surrounding: tuple[str, ...]

    @property
    def text(self) -> str:
        """The paper's keyword form, ``Center: red house; Surrounding: meadow, noon, rain, birds above``."""
        return f"Center: {', '.join(self.centre)}; Surrounding: {', '.join(self.surrounding)}"


def truth(scene: Scene, mask: np.ndarray, view: View | None = None) -> Truth:
    """The truth of ``scene`` under ``mask``.

    Args:
        scene: the scene.
        mask: uint8 [H, W]; 1 = generate (surrounding), 0 = keep (centre).
        view: what the mask's coordinates are of; None for the whole scene at 64 x 64.
    """
    owners = _in_view(owner_map(scene), mask, view)
    generated = np.bincount(owners[mask == 1], minlength=8)
    kept = np.bincount(owners[mask == 0], minlength=8)
    centre: list[str] = []
    surrounding: list[str] = []

    def assign(owner: int, phrase: str) -> None:
        if kept[owner] + generated[owner] == 0:
            return  # cropped away
        (centre if kept[owner] > generated[owner] else surrounding).append(phrase)

    assign(SUBJECT, scene.subject.phrase)
    everywhere = max(1, int(generated.sum()))
    for owner, word in ((GROUND, scene.terrain), (SKY, scene.time)):
        shown = generated[owner] >= SCENERY_SHARE * everywhere
        (surrounding if shown else centre).append(word)
    surrounding.append(scene.weather)
    for thing in scene.things:
        assign(OWNERS[thing.side], thing.phrase)
    if not centre:
        centre.append(scene.terrain if kept[GROUND] >= kept[SKY] else scene.time)
    return Truth(tuple(centre), tuple(surrounding))


def _in_view(owners: np.ndarray, mask: np.ndarray, view: View | None) -> np.ndarray:
    """The map of owners at the size of ``mask``, cropped as the view crops."""
    if view is None and mask.shape == (SIZE, SIZE):
        return owners[::2, ::2]
    if view is None:
        view = View(width=mask.shape[1], height=mask.shape[0])
    height, width = owners.shape
    if width * view.height > height * view.width:
        wide, tall = height * view.width / view.height, float(height)
    else:
        wide, tall = float(width), width * view.height / view.width
    place = {"start": 0.0, "centre": 0.5, "end": 1.0}[view.crop]
    left, top = (width - wide) * place, (height - tall) * place
    box = (left, top, left + wide, top + tall)
    image = Image.fromarray(owners).resize((view.width, view.height), Image.Resampling.NEAREST, box=box)
    return np.asarray(image)


def png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
