"""Score the served captioner on scenes whose truth is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vip.nano.ask import Question, ask
from vip.nano.instructions import (
    IMAGINE,
    IMAGINE_KEYWORDS,
    JOINT,
    SPLIT_CENTRE,
    SPLIT_SURROUNDING,
    blank,
    kept_box,
)
from vip.nano.regions import DEFAULT, mask_of
from vip.nano.scene import Scene, make_scene
from vip.nano.truth import truth
from vip.nano.vocabulary import SCENERY
from vip.nano.words import Tally, roles, split_caption
from vip.nano.world import draw

DRAWS = 10
DRAWN_SCENES = 40
"""How many scenes are imagined ``DRAWS`` times at temperature 1."""


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(",") if phrase.strip()]


def score_captioner(endpoint: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Figures of ``joint``, ``split`` and ``imagine`` on ``seeds``, central half kept.

    Accuracy counts words: right ones over those told by the truth and those invented. ``leak`` is how often an
    answer names a thing (kind and colour) that only the other half shows, ``.._shuffled`` the same for the same
    answers against the next scene's truth: what chance alone gives.
    """
    scenes = [make_scene(seed) for seed in seeds]
    mask = mask_of(DEFAULT)
    box = kept_box(mask)
    pictures = [draw(scene) for scene in scenes]
    facts = [truth(scene, mask) for scene in scenes]
    joint = ask(endpoint, [Question(p, JOINT.format(box=box)) for p in pictures])
    centres = [blank(p, mask, part=1) for p in pictures]
    around = [blank(p, mask, part=0) for p in pictures]
    split_centre = ask(endpoint, [Question(p, SPLIT_CENTRE) for p in centres])
    split_around = ask(endpoint, [Question(p, SPLIT_SURROUNDING) for p in around])
    tallies = {name: Tally() for name in ("joint", "split centre", "split surrounding")}
    malformed = 0
    by_role: dict[str, list[int]] = {}
    for fact, text, centre, surrounding in zip(facts, joint, split_centre, split_around, strict=True):
        said = split_caption(text)
        malformed += said is None
        said_centre, said_around = said or ([], [])
        tallies["joint"].add([(fact.centre, said_centre), (fact.surrounding, said_around)])
        tallies["split centre"].add([(fact.centre, _phrases(centre))])
        tallies["split surrounding"].add([(fact.surrounding, _phrases(surrounding))])
        guessed = {**roles(said_centre), **roles(said_around)}
        for role, word in {**roles(fact.centre), **roles(fact.surrounding)}.items():
            by_role.setdefault(role, []).append(guessed.get(role) == word)
    turned = [*range(1, len(facts)), 0]
    return {
        "scenes": len(scenes),
        "joint": {
            "words_right": tallies["joint"].accuracy,
            "captions_wholly_right": tallies["joint"].whole,
            "malformed": malformed,
            "words_right_by_attribute": {role: float(np.mean(hits)) for role, hits in sorted(by_role.items())},
        },
        "split": {
            "centre_words_right": tallies["split centre"].accuracy,
            "surrounding_words_right": tallies["split surrounding"].accuracy,
            "leak_into_centre": _named(split_centre, [fact.surrounding[3:] for fact in facts]),
            "leak_into_centre_shuffled": _named(split_centre, [facts[i].surrounding[3:] for i in turned]),
            "leak_into_surrounding": _named(split_around, [fact.centre for fact in facts]),
            "leak_into_surrounding_shuffled": _named(split_around, [facts[i].centre for i in turned]),
        },
        "imagine": _score_imagine(endpoint, scenes, centres, box),
    }


def _named(answers: Sequence[str], others: Sequence[Sequence[str]]) -> float:
    """Share of the other half's things (side left out) that the answers name."""
    named = total = 0
    for answer, things in zip(answers, others, strict=True):
        said = {" ".join(_bare(phrase)) for phrase in _phrases(answer)}
        total += len(things)
        named += sum(" ".join(_bare(thing)) in said for thing in things)
    return named / max(1, total)


def _bare(phrase: str) -> list[str]:
    return [word for word in phrase.split() if word not in ("left", "right", "above", "below")]


def _score_imagine(endpoint: str, scenes: Sequence[Scene], centres: Sequence[np.ndarray], box: str) -> dict[str, Any]:
    plain = ask(endpoint, [Question(p, IMAGINE.format(box=box)) for p in centres])
    keywords = [_keywords(scene) for scene in scenes]
    texts = [IMAGINE_KEYWORDS.format(box=box, keywords=", ".join(words)) for words in keywords]
    asked = ask(endpoint, [Question(p, text) for p, text in zip(centres, texts, strict=True)])
    kept = total = 0
    for words, answer in zip(keywords, asked, strict=True):
        said = split_caption(answer)
        phrases = said[1] if said else []
        total += len(words)
        kept += sum(any(set(word.split()) <= set(phrase.split()) for phrase in phrases) for word in words)
    few = list(centres[:DRAWN_SCENES])
    drawn = ask(endpoint, [Question(p, IMAGINE.format(box=box), 1.0, seed) for p in few for seed in range(DRAWS)])
    distinct = [len(set(drawn[i * DRAWS : (i + 1) * DRAWS])) for i in range(len(few))]
    consistent = [
        word in (split_caption(answer) or ([], []))[1]
        for scene, answer in zip(scenes, plain, strict=True)
        for word in (scene.terrain, scene.time, scene.weather)
    ]
    everything = [*plain, *asked, *drawn]
    return {
        "well_formed": float(np.mean([split_caption(answer) is not None for answer in everything])),
        "keywords_kept": kept / max(1, total),
        "scenery_kept": float(np.mean(consistent)),
        "distinct_of_10_mean": float(np.mean(distinct)),
        "distinct_of_10_least": min(distinct),
    }


def _keywords(scene: Scene) -> list[str]:
    """What a user might ask for: one or two things of another scene, and for every third scene its scenery word."""
    other = make_scene(scene.seed + 500_000_000)
    words = [thing.phrase for thing in other.things[:2]]
    if scene.seed % 3 == 0:
        words.append((other.terrain, other.time, other.weather)[scene.seed // 3 % 3])
    return [word for word in words if word not in SCENERY or word not in (scene.terrain, scene.time, scene.weather)]
