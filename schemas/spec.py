"""Caption spec: everything that decides what a caption says."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.canonical import fingerprint

Strategy = Literal["joint", "split", "imagine"]
Part = Literal["joint", "centre", "surrounding", "imagine"]

Template = Literal["joint", "centre", "surrounding", "imagine", "imagine_keywords"]

PARTS: dict[str, tuple[Part, ...]] = {
    "joint": ("joint",),
    "split": ("centre", "surrounding"),
    "imagine": ("imagine",),
}


READING = "reading"

CAUSES: dict[str, str] = {
    "model": "model",
    "strategy": "template",
    "templates": "template",
    "keywords": "template",
    "constraint": "constraint",
    "sampling": "sampling",
    "preprocessing": "preprocessing",
    "budget": READING,
    "tokenizer": READING,
    "parser": READING,
    "leak_share": READING,
    "leave_out": READING,
}
"""Part of a spec -> what its change means to captions, in the order in which causes are told."""

# What only reads answers, and so may change without a new request.
_READING = {"name", *(name for name, cause in CAUSES.items() if cause == READING)}


_RESOLVED = re.compile("(.*)@([0-9a-f]{16})", re.DOTALL)


def split_tokenizer(tokenizer: str) -> tuple[str, str]:
    """Where a spec's tokenizer lies, and its digest; that is empty until the spec is resolved. A path may hold an @."""
    found = _RESOLVED.fullmatch(tokenizer)
    return (found[1], found[2]) if found else (tokenizer, "")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelIdentity(_Section):
    """Who answers.

    Attributes:
        id: a hub id, ``nano``, or a name of the user's.
        revision: hub revision, or the SHA-256 over the weights of a local checkpoint; empty until resolved.
        server: name and version of what serves it, such as ``vllm 0.32.0``.
        dtype, quantization: as served.
        declared: True where nobody checked it, as with an endpoint that someone else runs.
        place: where a checkpoint that was checked is loaded from on this machine; decides nothing, and is kept nowhere.
    """

    id: str
    revision: str = ""
    server: str = ""
    dtype: str = ""
    quantization: str = ""
    declared: bool = False
    place: str = Field(default="", exclude=True)

    @property
    def served_name(self) -> str:
        """The name it is asked under: as its server declares it, else ``nano@0123456789abcdef`` by its weights.

        A dtype other than float32 and a quantisation follow, so that who serves the name says all that was settled.
        """
        if self.declared or not self.revision:
            return self.id
        dtype = "" if self.dtype == "float32" else self.dtype
        return "-".join(filter(None, (f"{self.id}@{self.revision[:16]}", dtype, self.quantization)))


class Sampling(_Section):
    """Sampling values sent with every request; the seed of a draw is ``seed + draw``."""

    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: int = Field(default=64, ge=1, le=4096)
    seed: int = Field(default=0, ge=0)


class Preprocessing(_Section):
    """What is done to the pixels before they are sent.

    Attributes:
        format: how rendered pixels are encoded; PNG is exact.
        quality: JPEG quality, ignored for PNG.
        blank: grey level (0..255) laid over the part that a request must not see.
        original_bytes: send the original bytes where view and part allow it, so that nothing is decoded.
    """

    format: Literal["png", "jpeg"] = "png"
    quality: int = Field(default=92, ge=1, le=100)
    blank: int = Field(default=128, ge=0, le=255)
    original_bytes: bool = True


class Budget(_Section):
    """Upper bounds in tokens of the target model's own tokenizer, special tokens included (77 is CLIP's limit)."""

    centre: int = Field(default=77, ge=3)
    surrounding: int = Field(default=77, ge=3)
    total: int = Field(default=77, ge=3)
    over: Literal["reject", "reask", "keep"] = "reject"


class CaptionSpec(_Section):
    """One way to caption: strategy, templates, model, sampling, output constraint, preprocessing, budgets.

    Attributes:
        templates: part -> text of its request. ``{keywords}``, ``{region}`` (what is kept, in words) and ``{box}`` (its
            bounding box in sixteenths of the view: left, top, right, bottom) are filled in.
        constraint: part -> vLLM's ``structured_outputs``: ``regex``, ``choice``, ``json`` or ``grammar``.
        keywords: what the user wants in the surrounding; with them ``imagine_keywords`` takes the place of ``imagine``.
        tokenizer: of the target model: ``nano`` or a folder; once resolved, followed by ``@`` and a digest.
        leak_share: reject a caption where this share of the words of its shorter half stands in the other; None only
            records them.
        leave_out: words that are taken out of captions as their answers are read, such as those that name a place.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]*$")
    strategy: Strategy
    model: ModelIdentity
    templates: dict[Template, str]
    constraint: dict[Part, dict[str, Any]] = {}
    sampling: Sampling = Sampling()
    preprocessing: Preprocessing = Preprocessing()
    keywords: tuple[str, ...] = ()
    budget: Budget = Budget()
    tokenizer: str = "nano"
    parser: Literal["keywords", "json", "prose"] = "keywords"
    leak_share: float | None = Field(default=None, gt=0.0, le=1.0)
    leave_out: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The requests that make one caption, in the order in which they are recorded."""
        return PARTS[self.strategy]

    @property
    def answers_id(self) -> str:
        """Names the partition of the answers: hash of all that decides a request, nothing that only reads answers."""
        return fingerprint(self.asked)[:32]

    @property
    def asked(self) -> dict[str, Any]:
        """Everything that decides a request, as JSON values; its hash names the partition, so it can be verified."""
        return self.model_dump(mode="json", exclude=_READING)

    @property
    def spec_id(self) -> str:
        """Names the captions: hash of everything but the spec's name and where its tokenizer lies."""
        return fingerprint(self.params)[:32]

    @property
    def params(self) -> dict[str, Any]:
        """Everything that decides a caption, as JSON values; neither the spec's name nor a path on this machine."""
        # Specs that leave nothing out keep the ids that they had before anything could be left out.
        unsaid = {"name"} if self.leave_out else {"name", "leave_out"}
        return {**self.model_dump(mode="json", exclude=unsaid), "tokenizer": self.tokenizer.rpartition("@")[2]}
