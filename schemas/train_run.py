"""Train run: what `vip train` trains on, and how."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.train_config import TrainConfig


class TrainData(BaseModel):
    """One dataset and the captions to train on, as refs or unique prefixes of a key.

    Attributes:
        dataset: such as ``dataset/scenery``, or the bare name ``scenery``.
        captions: such as ``captions/scenery``; empty takes the ref of that name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(min_length=1)
    captions: str = ""

    @property
    def name(self) -> str:
        """The dataset's bare name, by which ``train.datasets`` weighs a mixture."""
        return self.dataset.removeprefix("dataset/")


class TrainRun(BaseModel):
    """``name`` becomes the ref ``checkpoint/<name>``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]*$")
    data: tuple[TrainData, ...] = Field(min_length=1)
    train: TrainConfig = TrainConfig()

    @field_validator("data")
    @classmethod
    def _each_once(cls, value: tuple[TrainData, ...]) -> tuple[TrainData, ...]:
        # Shards and captions stand in the key under the name of their dataset: the second would hide the first.
        twice = [one.name for number, one in enumerate(value) if one.name in {other.name for other in value[:number]}]
        if twice:
            raise ValueError(f"dataset {twice[0]} is named twice; train on one set of its captions")
        return value
