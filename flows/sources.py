"""Sources: the captioned datasets that a training reads, and where their files lie. Asks no Prefect."""

from dataclasses import dataclass

from flows.artifacts import find_artifact
from schemas.errors import VipError
from schemas.manifest import ArtifactRef, Manifest, Recipe
from schemas.train_config import TrainConfig
from schemas.train_run import TrainRun
from schemas.training import ShardCaptions
from storage.refs import Refs
from storage.store import ArtifactStore
from vip.captioning.plan import dataset_shards
from vip.diffusion.precompute import place


@dataclass(frozen=True)
class Source:
    """One dataset to train on, with its captions; ``name`` is what a mixture weighs it by."""

    name: str
    dataset: ArtifactRef
    captions: ArtifactRef


@dataclass(frozen=True)
class Part:
    """One shard of a source and its captions."""

    source: str
    prefix: str
    shard: ArtifactRef
    captions: ArtifactRef

    def place(self, store: ArtifactStore) -> ShardCaptions:
        """Where its files lie."""
        return place(store, self.shard, self.captions).model_copy(update={"dataset": self.source})


def find_sources(store: ArtifactStore, run: TrainRun) -> list[Source]:
    """The datasets and caption sets that a config names.

    Raises:
        VipError: where a name means nothing.
    """
    return [
        Source(
            data.name,
            find_artifact(store, "dataset", data.dataset).ref,
            find_artifact(store, "caption_set", data.captions or data.name).ref,
        )
        for data in run.data
    ]


def any_dataset(store: ArtifactStore, run: TrainRun) -> bool:
    """Whether the root knows any of the datasets that a config names."""
    known = set(Refs(store.backend).names())
    return any(f"dataset/{data.name}" in known for data in run.data)


def parts_of(store: ArtifactStore, sources: list[Source]) -> list[Part]:
    """Every shard of every source, with its captions.

    Raises:
        VipError: where captions were made of a dataset that is divided in another way.
    """
    found = []
    for source in sources:
        captions = store.require(source.captions).inputs
        for prefix, shard in dataset_shards(store.require(source.dataset)).items():
            if f"captions/{prefix}" not in captions:
                raise VipError(
                    f"the captions of {source.name} have none for its shard {prefix}",
                    f"they are of another version of the dataset: run `vip caption {source.name}` again",
                )
            found.append(Part(source.name, prefix, shard, captions[f"captions/{prefix}"]))
    return found


def checkpoint_recipe(store: ArtifactStore, base: Manifest, sources: list[Source], config: TrainConfig) -> Recipe:
    """What names a checkpoint: base, shards, captions and config. File names of images are in none of them."""
    inputs = {"base": base.ref} | {f"caption_set/{source.name}": source.captions for source in sources}
    for part in parts_of(store, sources):
        inputs[f"shard/{part.source}/{part.prefix}"] = part.shard
        inputs[f"captions/{part.source}/{part.prefix}"] = part.captions
    return Recipe(kind="checkpoint", stage="train", inputs=inputs, params=config.params())
