"""Evaluate config: one exam, fully stated."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.region import BrushRegion, CentreRegion, Region, SidesRegion, View

Setting = Literal["oracle", "centre_only", "unconditional", "control:swapped", "control:shuffled", "control:noise"]

PROMPTS_OF: dict[str, str] = {
    "oracle": "oracle",
    "centre_only": "centre_only",
    "unconditional": "",
    "control:swapped": "oracle",
    "control:shuffled": "oracle",
    "control:noise": "",
}
"""Setting -> the prompt set whose texts it uses; empty where it uses none."""


def _centred(size: int, kept: int) -> tuple[View, Region]:
    return View(width=size, height=size), CentreRegion(keep=kept / size)


_NANO = View(width=64, height=64)


def _of_size(size: int) -> dict[str, tuple[View, Region]]:
    """The same share generated at two sides, at a corner, and irregularly."""
    view = View(width=size, height=size)
    regions: dict[str, Region] = {
        "sides": SidesRegion(left=1 / 6, right=1 / 6),
        "corner": SidesRegion(right=1 / 3, bottom=1 / 3),
        "brush": BrushRegion(cover=0.5),
    }
    return {f"{size}-{name}": (view, region) for name, region in regions.items()}


PRESETS: dict[str, tuple[View, Region]] = {
    "nano-centre": (_NANO, CentreRegion(keep=0.5)),
    "nano-sides": (_NANO, SidesRegion(left=0.25, right=0.25)),
    "nano-corner": (_NANO, SidesRegion(right=0.375, bottom=0.375)),
    "nano-brush": (_NANO, BrushRegion(cover=0.5)),
    # Thin strokes over half of a scene leave something of every thing to be seen; these hide whole things.
    "nano-brush-80": (_NANO, BrushRegion(cover=0.8)),
    # QueryOTR and PQDiff: output 192, known centre 128, 86 and 56 pixels: 2.25x, 5x and 11.7x the area.
    "192-128": _centred(192, 128),
    "192-86": _centred(192, 86),
    "192-56": _centred(192, 56),
    **_of_size(192),
    "256-128": _centred(256, 128),
    **_of_size(256),
    "512-256": _centred(512, 256),
    **_of_size(512),
}
"""Name -> view and region. An irregular region takes a seed of its own from each image's bank entry."""


class EvaluateConfig(BaseModel):
    """One exam: which images, which regions, which texts, which sampler, which seeds, which feature network.

    Attributes:
        preset: a name of ``PRESETS``; ``view`` and ``region`` stand in for it where both are given.
        settings: what the model is told; each is reported apart.
        split: the images of the exam.
        images: at most this many, those with the lowest keys; None takes all that have captions in every setting.
        steps, guidance: of the sampler; its scheduler is the one that the checkpoint was saved with.
        feather: pixels of blending on the known side when the known part is pasted back; 0 is the field's convention.
        seed: every image is sampled from a generator of its own, seeded by this and the image's key.
        network: a feature network that ``vip.evaluation.networks`` knows.
        network_weights: the ``.safetensors`` file of ``inception-v3``.
        clip: folder or hub id of a CLIP model, for CLIPScore.
        lpips: ``.safetensors`` file of torchvision's AlexNet, for LPIPS of the known part.
        probe: ``nano``, or the folder of a probe, on pictures of the drawn world: which words of the texts can be seen.
        diversity: further seeds for the first setting, to see how much its pictures differ.
        resamples, confidence: of the bootstrap intervals.
        unpasted: also compare the pictures as the model left them, before the known part is pasted back, under
            ``frechet_distance_unpasted`` and so on.
        floor: also compare as many other real images with the real ones of the exam.
        batch_size: images sampled at a time, for speed and memory; in another batch kernels round otherwise, up to a
            grey level here and there, so that the samples' key holds it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "nano-centre"
    view: View | None = None
    region: Region | None = None
    settings: tuple[Setting, ...] = Field(default=("oracle", "unconditional"), min_length=1)
    split: Literal["train", "test"] = "test"
    images: int | None = Field(default=None, ge=2)
    steps: int = Field(default=30, ge=1, le=1000)
    guidance: float = Field(default=3.0, ge=0.0, le=50.0)
    feather: int = Field(default=0, ge=0, le=64)
    seed: int = Field(default=0, ge=0, lt=2**31)
    network: str = "efficientnet-lite0"
    network_weights: str | None = None
    clip: str | None = None
    lpips: str | None = None
    probe: str | None = None
    diversity: int = Field(default=0, ge=0, le=16)
    resamples: int = Field(default=1000, ge=100, le=100_000)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    unpasted: bool = False
    floor: bool = True
    batch_size: int = Field(default=16, ge=1, le=1024)

    @model_validator(mode="after")
    def _known(self) -> "EvaluateConfig":
        if (self.view is None) != (self.region is None):
            raise ValueError("give view and region together, or a preset")
        if self.view is None and self.preset not in PRESETS:
            raise ValueError(f"preset '{self.preset}' is unknown; choose one of {', '.join(PRESETS)}")
        if self.network_weights is not None and self.network == "efficientnet-lite0":
            raise ValueError("efficientnet-lite0 has its own weights; network_weights go with network: inception-v3")
        if len(set(self.settings)) != len(self.settings):
            raise ValueError("a setting is named twice")
        return self

    @property
    def geometry(self) -> tuple[View, Region]:
        """The view and the region of the exam."""
        if self.view is not None and self.region is not None:
            return self.view, self.region
        return PRESETS[self.preset]

    @property
    def needs(self) -> tuple[str, ...]:
        """The prompt sets that the settings use, each once."""
        return tuple(dict.fromkeys(PROMPTS_OF[setting] for setting in self.settings if PROMPTS_OF[setting]))

    def params(self) -> dict[str, Any]:
        """The exam without what only says where a network lies; its digest stands for it."""
        left_out = {"batch_size", "preset", "view", "region", "network", "network_weights", "probe", "clip", "lpips"}
        # An exam that does not ask for what came later keeps the key that it had before.
        return self.model_dump(mode="json", exclude=left_out if self.unpasted else {*left_out, "unpasted"})

    def sampler(self) -> dict[str, float | int]:
        """What decides a picture beside the checkpoint, the image and the text."""
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "feather": self.feather,
            "seed": self.seed,
            "batch": self.batch_size,
        }
