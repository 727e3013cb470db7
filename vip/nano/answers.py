"""What the captioner is taught: an instruction, what it sees, and the answer."""

from dataclasses import dataclass, replace

import numpy as np

from vip.nano.instructions import (
    IMAGINE,
    IMAGINE_KEYWORDS,
    JOINT,
    SPLIT_CENTRE,
    SPLIT_SURROUNDING,
    blank,
    kept_box,
)
from vip.nano.regions import draw_box_region, mask_of
from vip.nano.scene import Scene, make_scene
from vip.nano.truth import Truth, truth
from vip.nano.vocabulary import COLOURS, KINDS, SIDES, TERRAINS, THINGS, TIMES, WEATHERS
from vip.nano.world import draw

_COLOUR_WORDS = tuple(COLOURS)
STRATEGIES = ("joint", "split_centre", "split_surrounding", "imagine")
SHARES = (0.38, 0.10, 0.24, 0.28)
"""How often each strategy is taught. Most of the imagining has keywords: honouring them is learned late."""
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "kind": ("house", "tree", "boat", "car", "tower", "tent", "balloon", "cat"),
    "colour": tuple(COLOURS),
    "terrain": TERRAINS,
    "time": TIMES,
    "weather": WEATHERS,
    **{f"{side} kind": THINGS[side] for side in SIDES},
    **{f"{side} colour": tuple(COLOURS) for side in SIDES},
}
"""Attribute -> its words; label 0 is "none or not seen", label i + 1 the word i."""


@dataclass(frozen=True)
class Example:
    """One thing to learn.

    Attributes:
        pixels: uint8 [64, 64, 3], blanked as the strategy demands.
        prompt, answer: text.
        labels: one label per attribute of ``ATTRIBUTES``.
        spots: for every object that can be seen: the 8 px patch its middle lies in (0 to 63), its kind (index
            in ``KINDS``) and its colour (0 = none, else index in ``COLOURS`` + 1).
    """

    strategy: str
    pixels: np.ndarray
    prompt: str
    answer: str
    labels: list[int]
    spots: list[tuple[int, int, int]]


def labels_of(scene: Scene, seen: np.ndarray | None = None) -> list[int]:
    """Labels of ``scene``; what ``seen`` (bool [64, 64]) hides is 0."""

    def visible(x: float, y: float) -> bool:
        return seen is None or bool(seen[min(63, int(y)), min(63, int(x))])

    words = {"terrain": scene.terrain, "time": scene.time, "weather": scene.weather}
    if visible(scene.subject.x, scene.subject.y):
        words |= {"kind": scene.subject.kind, "colour": scene.subject.colour}
    for thing in scene.things:
        if visible(thing.x, thing.y):
            words |= {f"{thing.side} kind": thing.kind, f"{thing.side} colour": thing.colour}
    return [options.index(words[name]) + 1 if words.get(name) else 0 for name, options in ATTRIBUTES.items()]


def spots_of(scene: Scene, seen: np.ndarray | None = None) -> list[tuple[int, int, int]]:
    """Where the objects of ``scene`` stand that ``seen`` (bool [64, 64]) does not hide; see ``Example.spots``."""
    spots = []
    for thing in (scene.subject, *scene.things):
        column, row = min(63, int(thing.x)), min(63, int(thing.y))
        if seen is None or seen[row, column]:
            colour = _COLOUR_WORDS.index(thing.colour) + 1 if thing.colour else 0
            spots.append((row // 8 * 8 + column // 8, KINDS.index(thing.kind), colour))
    return spots


def make_example(seed: int, *, salt: int = 0) -> Example:
    """The example named by ``seed``: its scene, a region and a strategy, all drawn from the seed."""
    rng = np.random.Generator(np.random.PCG64([seed, salt, 7]))
    scene = make_scene(seed)
    mask = mask_of(draw_box_region(rng))
    strategy = STRATEGIES[int(np.searchsorted(np.cumsum(SHARES), rng.random() * 0.999999, side="right"))]
    pixels, box, facts = draw(scene), kept_box(mask), truth(scene, mask)
    match strategy:
        case "joint":
            return Example(strategy, pixels, JOINT.format(box=box), facts.text, labels_of(scene), spots_of(scene))
        case "split_centre":
            seen = blank(pixels, mask, part=1)
            answer = ", ".join(facts.centre)
            return Example(
                strategy, seen, SPLIT_CENTRE, answer, labels_of(scene, mask == 0), spots_of(scene, mask == 0)
            )
        case "split_surrounding":
            seen = blank(pixels, mask, part=0)
            answer = ", ".join(facts.surrounding)
            return Example(
                strategy, seen, SPLIT_SURROUNDING, answer, labels_of(scene, mask == 1), spots_of(scene, mask == 1)
            )
        case _:
            seen = blank(pixels, mask, part=1)
            prompt, answer = _imagined(scene, mask, box, rng)
            return Example(strategy, seen, prompt, answer, labels_of(scene, mask == 0), spots_of(scene, mask == 0))


def _imagined(scene: Scene, mask: np.ndarray, box: str, rng: np.random.Generator) -> tuple[str, str]:
    """The kept part stays, what stands around it is another scene's, and some of that is asked for."""
    other = make_scene(int(rng.integers(2**62)))
    kept = tuple(t for t in scene.things if not mask[min(63, int(t.y)), min(63, int(t.x))])
    sides = {t.side for t in kept}
    things = sorted((*kept, *(t for t in other.things if t.side not in sides)), key=lambda t: SIDES.index(t.side))
    imagined = replace(scene, things=tuple(things))
    if rng.random() < 0.25:
        return IMAGINE.format(box=box), truth(imagined, mask).text
    # Asked for scenery may contradict what is seen: the user wins.
    if rng.random() < 0.5:
        imagined = replace(
            imagined,
            **{name: getattr(other, name) for name in ("terrain", "time", "weather") if rng.random() < 0.5},
        )
    facts: Truth = truth(imagined, mask)
    scenery = {imagined.terrain, imagined.time, imagined.weather}
    must = [w for w in facts.surrounding if w in scenery and w not in (scene.terrain, scene.time, scene.weather)]
    rest = [w for w in facts.surrounding if w not in must]
    wanted = must + [rest[i] for i in rng.permutation(len(rest))[: int(rng.integers(0 if must else 1, 4))]]
    keywords = [_shorten(phrase, rng) for phrase in wanted]
    order = rng.permutation(len(keywords))
    keywords = [keywords[i] for i in order]
    return IMAGINE_KEYWORDS.format(box=box, keywords=", ".join(keywords)), facts.text


def _shorten(phrase: str, rng: np.random.Generator) -> str:
    """A user says ``flowers`` or ``blue flowers`` as well as ``blue flowers left``."""
    words = phrase.split()
    if words[-1] in SIDES and rng.random() < 0.5:
        words = words[:-1]
        if words[0] in COLOURS and rng.random() < 0.3:
            words = words[1:]
    return " ".join(words)
