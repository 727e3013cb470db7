"""What a scene is made of: attributes drawn from a seed, without a pixel."""

from dataclasses import dataclass

import numpy as np

from vip.nano.vocabulary import COLOURED, COLOURS, SIDES, SUBJECTS, TERRAINS, THINGS, TIMES, WEATHERS

SIZE = 64
"""Width and height of a scene, pixels."""

TRAINING_SEEDS = 10_000_000
"""Seeds from here on are trained on; every seed below is held out from every nano model."""

THING_SHARE = 0.72
"""How often a side holds a thing."""


@dataclass(frozen=True)
class Thing:
    """One object: the subject (``side`` empty) or a thing on a side.

    Attributes:
        kind, colour, side: words; ``colour`` is empty for kinds that have none.
        x, y: its middle, pixels.
        size: half its extent, pixels.
        turn: variation of its shape, 0 to 1.
    """

    kind: str
    colour: str
    side: str
    x: float
    y: float
    size: float
    turn: float

    @property
    def phrase(self) -> str:
        """Such as ``red house`` or ``blue flowers left``."""
        return " ".join(word for word in (self.colour, self.kind, self.side) if word)


@dataclass(frozen=True)
class Scene:
    """A scene before it is drawn.

    Attributes:
        seed: names the scene.
        subject: the object in the middle.
        things: at most one per side, in the order of ``SIDES``; at least one.
        terrain, time, weather: scenery words.
        horizon: row where ground begins, pixels.
        gain: brightness of the light, about 1.
        lit_left: whether light falls from the left.
        texture: 64 uniform numbers for texture and weather.
    """

    seed: int
    subject: Thing
    things: tuple[Thing, ...]
    terrain: str
    time: str
    weather: str
    horizon: float
    gain: float
    lit_left: bool
    texture: np.ndarray


def _pick(words: tuple[str, ...], u: float) -> str:
    return words[int(u * len(words))]


_COLOUR_WORDS = tuple(COLOURS)


def make_scene(seed: int) -> Scene:
    """The scene named by ``seed`` (0 or more); all attributes uniform and independent of each other."""
    u = np.random.Generator(np.random.PCG64(seed)).random(112)
    a, texture = u[:48].tolist(), u[48:]
    subject_kind = _pick(SUBJECTS, a[0])
    horizon = 27.0 + 10.0 * a[5]
    size = 9.0 + 2.5 * a[6]
    x = 32.0 + 6.0 * (a[7] - 0.5)
    y = 32.0 + 5.0 * (a[8] - 0.5)
    subject = Thing(subject_kind, _pick(_COLOUR_WORDS, a[1]), "", x, y, size, a[9])
    things = []
    forced = int(a[12] * 4)
    for i, side in enumerate(SIDES):
        present, kind_u, colour_u, along, across, size_u, turn = a[13 + 7 * i : 20 + 7 * i]
        if present >= THING_SHARE and i != forced:
            continue
        kind = _pick(THINGS[side], kind_u)
        size = 5.6 + 1.2 * size_u
        match side:
            case "left":
                place = (7.6 + 0.8 * (across - 0.5), 36.0 + 16.0 * (along - 0.5))
            case "right":
                place = (56.4 + 0.8 * (across - 0.5), 36.0 + 16.0 * (along - 0.5))
            case "above":
                place = (32.0 + 22.0 * (along - 0.5), 7.8 + 0.8 * (across - 0.5))
            case _:
                place = (32.0 + 18.0 * (along - 0.5), 56.4 + 0.8 * (across - 0.5))
        colour = _pick(_COLOUR_WORDS, colour_u) if kind in COLOURED else ""
        things.append(Thing(kind, colour, side, *place, size, turn))
    return Scene(
        seed=seed,
        subject=subject,
        things=tuple(things),
        terrain=_pick(TERRAINS, a[2]),
        time=_pick(TIMES, a[3]),
        weather=_pick(WEATHERS, a[4]),
        horizon=horizon,
        gain=0.92 + 0.16 * a[10],
        lit_left=a[11] < 0.5,
        texture=texture,
    )
