"""The three texts of C-T-S: total, centre and surrounding."""

import re
from typing import Literal, NamedTuple

from schemas.prompt import total_prompt

PromptStyle = Literal["labelled", "plain"]

_SURROUNDING = re.compile(r";?\s*surrounding\s*:", re.IGNORECASE)
_CENTER = re.compile(r"^\s*cent(?:er|re)\s*:", re.IGNORECASE)


class Prompt(NamedTuple):
    """The texts of one image, as they go to the tokenizer."""

    total: str
    center: str
    surrounding: str


def make_prompt(center: str, surrounding: str, total: str | None = None, style: PromptStyle = "labelled") -> Prompt:
    """Build the three texts of one image.

    Args:
        center: what the kept part shows; may be empty.
        surrounding: what is to be generated; may be empty.
        total: the whole text where it differs from :func:`schemas.prompt.total_prompt`.
        style: ``labelled`` gives the branches ``Center: wolf`` and ``Surrounding: forest``, as the released code does,
            so that they read the same words as the total text; ``plain`` gives them ``wolf`` and ``forest``.
    """
    center, surrounding = center.strip(), surrounding.strip()
    whole = total_prompt(center, surrounding) if total is None else total
    if style == "plain":
        return Prompt(whole, center, surrounding)
    return Prompt(whole, _labelled("Center", center), _labelled("Surrounding", surrounding))


def parse_prompt(text: str) -> tuple[str, str]:
    """Split ``Center: a; Surrounding: b`` into ``("a", "b")``.

    The label decides where to split, so further semicolons, hyphens and colons stay in their half, and either half may
    be missing. A text without any label describes the whole picture, so both halves are that text.
    """
    surrounding = _SURROUNDING.search(text)
    center = _CENTER.match(text)
    if surrounding is None and center is None:
        return text.strip(), text.strip()
    first = text[: surrounding.start()] if surrounding else text
    second = text[surrounding.end() :] if surrounding else ""
    return _CENTER.sub("", first).strip(), second.strip()


def _labelled(label: str, text: str) -> str:
    return f"{label}: {text}" if text else f"{label}:"
