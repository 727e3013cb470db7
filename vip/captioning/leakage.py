"""Leakage: a half that says what belongs to the other."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

# Words that carry no content, and words of place that rightly stand in both halves.
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be behind below between by for from has have in into is it its left of on or over right "
        "some that the their there this to under up with above beside near around",
    )
)


def content_words(text: str) -> set[str]:
    """Lower-case words of a text without stop words; a plain plural counts as its singular."""
    words = {word for word in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower()) if word not in _STOP}
    return {word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words}


def overlap(centre: str, surrounding: str) -> list[str]:
    """The content words that stand in both halves, sorted."""
    return sorted(content_words(centre) & content_words(surrounding))


def restates(centre: str, surrounding: str, share: float) -> bool:
    """Whether at least ``share`` of the content words of the shorter half stand in the other."""
    first, second = content_words(centre), content_words(surrounding)
    smaller = min(len(first), len(second))
    return bool(smaller) and len(first & second) >= share * smaller


class SplitLeak(NamedTuple):
    """A joint caption that the split captions of the same row contradict.

    Attributes:
        surrounding_restates: words of the joint surrounding that only the one who saw the centre used.
        centre_foresees: words of the joint centre that only the one who saw the surrounding used.
    """

    caption_id: str
    surrounding_restates: tuple[str, ...]
    centre_foresees: tuple[str, ...]


def split_leaks(joint: Mapping[Any, Mapping[str, Any]], split: Mapping[Any, Mapping[str, Any]]) -> list[SplitLeak]:
    """Joint captions in which one half says what only the other part shows, by the split captions of the same rows.

    Args:
        joint: (image, view, region) -> row of ``CAPTIONS`` by a joint spec.
        split: the same by a split spec, whose requests each saw one part only.
    """
    leaks = []
    for key in joint.keys() & split.keys():
        row = joint[key]
        centre, surrounding = content_words(split[key]["centre"]), content_words(split[key]["surrounding"])
        restates = content_words(row["surrounding"]) & (centre - surrounding)
        foresees = content_words(row["centre"]) & (surrounding - centre)
        if restates or foresees:
            leaks.append(SplitLeak(row["caption_id"], tuple(sorted(restates)), tuple(sorted(foresees))))
    return sorted(leaks)
