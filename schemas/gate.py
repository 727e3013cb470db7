"""Gate: what a caption set must fulfil before anything is trained on it."""

from pydantic import BaseModel, ConfigDict, Field


class GateThresholds(BaseModel):
    """Upper bounds, as shares of rows (0..1) unless said otherwise; a set that exceeds one fails.

    Attributes:
        rejected: rows without a caption.
        refused: rows rejected as a refusal.
        cut: captions of which the target's token limit cuts something.
        short: captions with a half of fewer than ``min_words`` words.
        repeated: captions in which one run of three words, or one keyword, stands more than once.
        duplicated: captions whose total text another image has too.
        leaking: captions in which at least ``leak_share`` of the words of the shorter half stand in the other.
        min_words: words a half needs.
        leak_share: share of words from which a caption counts as leaking.
        worst: how many caption ids each check names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rejected: float = Field(default=0.05, ge=0.0, le=1.0)
    refused: float = Field(default=0.01, ge=0.0, le=1.0)
    cut: float = Field(default=0.05, ge=0.0, le=1.0)
    short: float = Field(default=0.05, ge=0.0, le=1.0)
    repeated: float = Field(default=0.05, ge=0.0, le=1.0)
    duplicated: float = Field(default=0.5, ge=0.0, le=1.0)
    leaking: float = Field(default=0.2, ge=0.0, le=1.0)
    min_words: int = Field(default=1, ge=1)
    leak_share: float = Field(default=0.5, gt=0.0, le=1.0)
    worst: int = Field(default=10, ge=0)
