"""Score captions word by word against the truth."""

from collections.abc import Sequence
from dataclasses import dataclass

from vip.nano.vocabulary import SIDES, TERRAINS, TIMES, WEATHERS

_SCENERY = (("terrain", TERRAINS), ("time", TIMES), ("weather", WEATHERS))


def roles(phrases: Sequence[str]) -> dict[str, str]:
    """Attribute words of one half by what they say.

    ``["red house", "rain", "blue flowers left"]`` gives ``subject colour``, ``subject kind``, ``weather``,
    ``left colour`` and ``left kind``. A thing without a colour has no colour word. The first phrase of a
    role counts; words beyond colour and kind stand under ``other <n>``.
    """
    found: dict[str, str] = {}
    for phrase in phrases:
        words = phrase.split()
        if not words:
            continue
        scenery = next((name for name, options in _SCENERY if len(words) == 1 and words[0] in options), None)
        if scenery is not None:
            found.setdefault(scenery, words[0])
            continue
        role = words.pop() if words[-1] in SIDES else "subject"
        if words:
            found.setdefault(f"{role} kind", words[-1])
        if len(words) > 1:
            found.setdefault(f"{role} colour", words[-2])
        for word in words[:-2]:
            found[f"other {len(found)}"] = word
    return found


def split_caption(text: str) -> tuple[list[str], list[str]] | None:
    """Phrases of centre and surrounding; None where ``text`` has not the form ``Center: ..; Surrounding: ..``."""
    head, separator, tail = text.partition("; Surrounding:")
    if not separator or not head.startswith("Center:") or ";" in tail:
        return None
    centre = [p.strip() for p in head.removeprefix("Center:").split(",") if p.strip()]
    surrounding = [p.strip() for p in tail.split(",") if p.strip()]
    return (centre, surrounding) if centre and surrounding else None


@dataclass
class Tally:
    """Counts of words: told by the truth, right among them, and said without being true."""

    told: int = 0
    right: int = 0
    invented: int = 0
    captions: int = 0
    wholly: int = 0

    @property
    def accuracy(self) -> float:
        """Right words over all words told or invented: a word too much costs as much as a word missed."""
        return self.right / max(1, self.told + self.invented)

    @property
    def whole(self) -> float:
        """Share of captions without a fault."""
        return self.wholly / max(1, self.captions)

    def add(self, pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> None:
        """Count one caption, given as pairs (phrases of the truth, phrases said), one per half."""
        faultless = True
        for true_phrases, said_phrases in pairs:
            true, said = roles(true_phrases), roles(said_phrases)
            right = sum(said.get(role) == word for role, word in true.items())
            invented = sum(role not in true for role in said)
            self.told += len(true)
            self.right += right
            self.invented += invented
            faultless &= right == len(true) and invented == 0
        self.captions += 1
        self.wholly += faultless
