"""Obedience and contamination on the drawn world: which words of the texts a probe finds in the generated part."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.canonical import fingerprint, sha256_hex
from vip.nano.answers import ATTRIBUTES
from vip.nano.vocabulary import SIDES
from vip.nano.words import roles

Read = Callable[[np.ndarray], np.ndarray]
"""uint8 (n, 64, 64, 3) -> labels (n, attributes); 0 = none, i + 1 = the word i of that attribute."""


class Obedience(NamedTuple):
    """What can be seen of the texts of one picture, each a share of words, None where there are no such words.

    Attributes:
        obeyed: words of the surrounding text that the picture shows at their place.
        contaminated: things at the sides that take kind or colour from the centre text though the surrounding text
            gives that side another or none.
    """

    obeyed: float | None
    contaminated: float | None


class NanoProbe:
    """The probe of the drawn world.

    Args:
        folder: where ``model.safetensors`` and ``config.json`` of the probe lie.
    """

    def __init__(self, folder: Path) -> None:
        from vip.nano.probe import load

        self._probe = load(folder)
        files = ("model.safetensors", "config.json")
        self.digest = fingerprint([sha256_hex((folder / name).read_bytes()) for name in files])

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Labels of uint8 (n, 64, 64, 3)."""
        from vip.nano.probe import read

        return read(self._probe, pictures)


def load_probe(name: str) -> NanoProbe:
    """The probe called ``nano``, or that of a folder.

    Raises:
        VipError: where there is none.
    """
    from storage.models import find_model

    return NanoProbe(find_model(name, "probe"))


def words_seen(labels: np.ndarray) -> list[dict[str, str]]:
    """Labels (n, attributes) as attribute -> word, absent ones left out."""
    found = []
    for row in labels:
        named = zip(ATTRIBUTES.items(), row, strict=True)
        found.append({name: options[label - 1] for (name, options), label in named if label > 0})
    return found


def obedience_of(center: str, surrounding: str, seen: dict[str, str]) -> Obedience:
    """Compare the texts of one picture with what is seen in it.

    A thing that the surrounding text gives no place is obeyed at any place that the centre text does not name.

    Args:
        center, surrounding: phrases joined by commas, as the drawn world's captions are.
        seen: attribute -> word, from :func:`words_seen`.
    """
    phrases = _phrases(surrounding)
    told = {role: word for role, word in roles(phrases).items() if role in ATTRIBUTES}
    asked = [seen.get(role) == word for role, word in told.items()]
    subject = roles(_phrases(center))
    placeless = [thing for thing in map(_placeless, phrases) if thing]
    open_places = [place for place in ("subject", *SIDES) if f"{place} kind" not in subject]
    for thing in placeless:
        asked += _obeyed_somewhere(thing, open_places, seen)
    places: list[bool] = []
    for side in SIDES:
        for what in ("kind", "colour"):
            foreign, role = subject.get(f"subject {what}"), f"{side} {what}"
            # Only words that can stand there and that the surrounding text does not ask for itself.
            asked_for = told.get(role) == foreign or any(thing.get(what) == foreign for thing in placeless)
            if foreign in ATTRIBUTES[role] and not asked_for and f"{side} kind" not in subject:
                places.append(seen.get(role) == foreign)
    return Obedience(_share(asked), _share(places))


def _placeless(phrase: str) -> dict[str, str]:
    """Kind, and colour where it has one, of a thing without a place; empty for anything else."""
    found = roles([phrase])
    return {what: found[f"subject {what}"] for what in ("kind", "colour") if f"subject {what}" in found}


def _obeyed_somewhere(thing: dict[str, str], places: Sequence[str], seen: dict[str, str]) -> list[bool]:
    """One entry a word: whether its kind is seen at one of ``places``, and whether its colour is seen on that kind."""

    def at(place: str, what: str) -> str | None:
        return seen.get(what if place == "subject" else f"{place} {what}")

    there = [place for place in places if at(place, "kind") == thing["kind"]]
    obeyed = [bool(there)]
    if "colour" in thing:
        obeyed.append(any(at(place, "colour") == thing["colour"] for place in there))
    return obeyed


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(",") if phrase.strip()]


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
