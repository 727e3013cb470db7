"""Outpaint settings: how one picture is continued."""

from pydantic import BaseModel, ConfigDict, Field


class OutpaintSettings(BaseModel):
    """What decides a picture beside the checkpoint, the image, the mask and the texts.

    Attributes:
        steps, guidance: of the sampler.
        seed: of the first result; the others follow by one.
        count: how many results.
        strength: how much of the noise a refinement starts from, 0..1; 0 leaves the enlarged first picture as it is.
        tiles: at most this many tiles of the model's own size are refined; a canvas that would need more is painted at
            a smaller scale and enlarged. 0 refines nothing.
        feather: pixels of blending on the known side of the seam; None takes half a latent cell at the painted scale.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=30, ge=1, le=1000)
    guidance: float = Field(default=3.0, ge=0.0, le=50.0)
    seed: int = Field(default=0, ge=0, lt=2**31)
    count: int = Field(default=1, ge=1, le=64)
    strength: float = Field(default=0.3, ge=0.0, le=1.0)
    tiles: int = Field(default=48, ge=0, le=4096)
    feather: int | None = Field(default=None, ge=0, le=512)
