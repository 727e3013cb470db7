"""Train run: what `vip train` trains on, and how."""

from pydantic import BaseModel, ConfigDict, Field

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
