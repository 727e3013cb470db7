"""Evaluate run: which checkpoint `vip evaluate` examines, on what."""

from pydantic import BaseModel, ConfigDict, Field

from schemas.evaluate_config import EvaluateConfig
from schemas.runner import Runner


class Crossed(BaseModel):
    """What else is examined, so that a table shows whether the model or the captions moved a number.

    Attributes:
        checkpoints: further checkpoints.
        prompts: further prompt sets; what one does not name is taken from the run's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoints: tuple[str, ...] = ()
    prompts: tuple[dict[str, str], ...] = ()


class EvaluateRun(BaseModel):
    """One checkpoint in one exam, or several crossed with several prompt sets.

    Attributes:
        name: becomes the ref ``evaluation/<name>``; crossed ones are called ``<name>.<checkpoint>.<prompts>``, both by
            number.
        checkpoint: ref, or unique prefix of a key.
        dataset: whose held-out images are continued.
        prompts: ``oracle`` and ``centre_only`` -> the caption set that is pinned for it.
        runner: what samples and takes features: this process, or the workers of a cluster.
        alongside: caption sets that must have a caption of an image as well, so that evaluations with other prompt sets
            examine the same images.
        crossed: every checkpoint is examined with every prompt set, all on the images that all prompt sets caption.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]*$")
    checkpoint: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    prompts: dict[str, str] = {}
    alongside: tuple[str, ...] = ()
    crossed: Crossed = Crossed()
    evaluate: EvaluateConfig = EvaluateConfig()
    runner: Runner = Runner()

    @property
    def cells(self) -> list["EvaluateRun"]:
        """The runs that this one stands for, itself first."""
        checkpoints = (self.checkpoint, *self.crossed.checkpoints)
        prompts = (self.prompts, *({**self.prompts, **further} for further in self.crossed.prompts))
        named = {name for one in prompts for what, name in one.items() if what in self.evaluate.needs}
        # One prompt set needs nothing alongside, and keeps the key that it has alone.
        alongside = tuple(sorted({*self.alongside, *(named if len(prompts) > 1 else ())}))
        return [
            self.model_copy(
                update={
                    "name": self.name if not (row or column) else f"{self.name}.{row + 1}.{column + 1}",
                    "checkpoint": checkpoint,
                    "prompts": told,
                    "alongside": alongside,
                    "crossed": Crossed(),
                }
            )
            for row, checkpoint in enumerate(checkpoints)
            for column, told in enumerate(prompts)
        ]
