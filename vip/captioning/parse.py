"""Read an answer: two named fields, or a typed reason why not. Nothing is ever cut or repaired in silence.

Only the words that the spec itself names (``leave_out``) are taken out.
"""

import json
import re
from collections import Counter
from dataclasses import astuple, dataclass
from enum import StrEnum

from schemas.spec import CaptionSpec, Part


class Reason(StrEnum):
    """Why an answer is no caption."""

    EMPTY_HALF = "empty_half"
    UNPARSABLE = "unparsable"
    REFUSAL = "refusal"
    REPETITION = "repetition"
    OVER_LONG = "over_long"
    LEAK = "leak"
    TRUNCATED = "truncated"
    SERVER_ERROR = "server_error"
    UNDECODABLE_IMAGE = "undecodable_image"


@dataclass(frozen=True, slots=True)
class Reject:
    """A typed reason and what it was about."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Halves:
    """What an answer says; a part of a split caption fills one field and leaves the other None."""

    centre: str | None = None
    surrounding: str | None = None


UNDECODABLE = "undecodable image: "
"""How the ``error`` of an answer begins where the image could not be sent."""

_LABEL = re.compile(r"(?<!\w)(cent(?:er|re)|surroundings?)\s*:", re.IGNORECASE)
# A refusal opens an answer or a half. The same words inside a sentence are somebody's words in the picture.
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am)\s+(?:(?:very|so|really)\s+)?sorry\b.*\b(?:can(?:no|['’]?)t|unable|not able)\b"
    r"|(?:sorry,?\s+(?:but\s+)?)?i\s*(?:can(?:no|['’])t|can not|am unable to|am not able to|won['’]t)\b"
    r"|(?:sorry,?\s+(?:but\s+)?)?i['’]m\s+(?:unable|not able)\b|as an ai\b)",
    re.IGNORECASE | re.DOTALL,
)
# Control characters, which steer a terminal or end a string, and halves of a character, which no file can hold.
_UNWRITABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MOST_REPEATS = 3
_NGRAM = 3


def read_answer(
    spec: CaptionSpec, part: Part, text: str | None, finish_reason: str | None, error: str | None
) -> Halves | Reject:
    """Parse and validate one answer.

    Returns:
        The named fields (for part ``centre`` or ``surrounding`` only that one), or a reason.
    """
    if error is not None:
        if error.startswith(UNDECODABLE):
            return Reject(Reason.UNDECODABLE_IMAGE, error.removeprefix(UNDECODABLE))
        return Reject(Reason.SERVER_ERROR, error)
    if finish_reason == "length":
        return Reject(Reason.TRUNCATED, f"the answer reached {spec.sampling.max_tokens} tokens")
    if not text or not text.strip():
        return Reject(Reason.EMPTY_HALF, "the answer is empty")
    if _REFUSAL.match(text):
        return Reject(Reason.REFUSAL, text.strip()[:80])
    found = _from_json(part, text) if spec.parser == "json" else _from_labels(part, text)
    if isinstance(found, Reject):
        return found
    if spec.leave_out:
        found = Halves(*(None if half is None else _without(spec.leave_out, half) for half in astuple(found)))
    for name, half in (("centre", found.centre), ("surrounding", found.surrounding)):
        if half is None:
            continue
        if strange := _UNWRITABLE.search(half):
            return Reject(Reason.UNPARSABLE, f"{name} holds the character U+{ord(strange[0]):04X}")
        if not re.search(r"\w", half):
            return Reject(Reason.EMPTY_HALF, f"{name} is empty")
        if _REFUSAL.match(half):
            return Reject(Reason.REFUSAL, f"{name}: {half[:80]}")
        repeated = repetition(half)
        if repeated:
            return Reject(Reason.REPETITION, f"{name} repeats '{repeated}'")
    return found


def repetition(text: str) -> str:
    """The keyword that stands three times or more, or the three words that make up most of a text; else empty."""
    parts = re.split(r"[,;]", text)
    if len(parts) >= _MOST_REPEATS:
        keywords = Counter(part.strip().lower() for part in parts if part.strip())
        keyword, count = keywords.most_common(1)[0] if keywords else ("", 0)
        if count >= _MOST_REPEATS:
            return keyword
    if text.count(" ") < 4 * _NGRAM - 1:
        return ""
    words = re.findall(r"\w+", text.lower())
    if len(words) < 4 * _NGRAM:
        return ""
    grams = Counter(tuple(words[place : place + _NGRAM]) for place in range(len(words) - _NGRAM + 1))
    gram, count = grams.most_common(1)[0]
    return " ".join(gram) if count * _NGRAM * 2 > len(words) and count >= _MOST_REPEATS else ""


def _from_labels(part: Part, text: str) -> Halves | Reject:
    """``Center: ...; Surrounding: ...``, in either order; the labels say which half is which, never the position."""
    labels = list(_LABEL.finditer(text))
    fields: dict[str, str] = {}
    for place, label in enumerate(labels):
        name = "centre" if label[1].lower().startswith("cent") else "surrounding"
        if name in fields:
            return Reject(Reason.UNPARSABLE, f"{name} stands twice in: {text[:120]}")
        end = labels[place + 1].start() if place + 1 < len(labels) else len(text)
        fields[name] = _clean(text[label.end() : end])
    before = text[: labels[0].start()] if labels else text
    if part in ("centre", "surrounding"):
        if not labels:
            return Halves(**{part: _clean(text)})
        if set(fields) != {part} or before.strip():
            return Reject(Reason.UNPARSABLE, f"not only the {part}: {text[:120]}")
        return Halves(**fields)
    if set(fields) != {"centre", "surrounding"} or before.strip():
        return Reject(Reason.UNPARSABLE, f"not of the form 'Center: ...; Surrounding: ...': {text[:120]}")
    return Halves(**fields)


def _from_json(part: Part, text: str) -> Halves | Reject:
    try:
        value = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        return Reject(Reason.UNPARSABLE, f"no JSON ({error}): {text[:120]}")
    wanted = {part} if part in ("centre", "surrounding") else {"centre", "surrounding"}
    if not isinstance(value, dict):
        return Reject(Reason.UNPARSABLE, f"no JSON object: {text[:120]}")
    if "center" in value and "centre" not in value:
        value["centre"] = value.pop("center")
    if set(value) != wanted or not all(isinstance(half, str) for half in value.values()):
        return Reject(Reason.UNPARSABLE, f"not the fields {', '.join(sorted(wanted))} as text: {text[:120]}")
    return Halves(**{name: _clean(half) for name, half in value.items()})


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; which of two equal keys is meant nobody knows."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice")
    return value


def _without(words: tuple[str, ...], text: str) -> str:
    """``text`` without these words, and without the keywords of which nothing is left."""
    named = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)", re.IGNORECASE)
    keywords = (" ".join(named.sub(" ", keyword).split()) for keyword in text.split(","))
    return ", ".join(keyword for keyword in keywords if keyword)


def _clean(text: str) -> str:
    """White space made single, the separator between the halves taken off the end."""
    return " ".join(text.split()).strip(";").strip()
