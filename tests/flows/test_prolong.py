"""Which runs go on from each other's training states."""

from flows.train import states_name
from schemas.manifest import ArtifactRef, Recipe
from schemas.train_config import TrainConfig

BASE = ArtifactRef(kind="model", key="a" * 64, digest="b" * 64)
OTHER = ArtifactRef(kind="model", key="a" * 64, digest="c" * 64)


def name(base=BASE, **changes):
    config = TrainConfig(**{"steps": 100, **changes})
    return states_name(Recipe(kind="checkpoint", stage="train", inputs={"base": base}, params=config.params()), config)


def test_more_steps_go_on_from_the_states_of_fewer():
    assert name(steps=200) == name()


def test_other_weights_under_the_same_name_and_other_rates_start_anew():
    assert len({name(), name(base=OTHER), name(lr=1e-5)}) == 3


def test_a_schedule_that_ends_is_no_prefix_of_a_longer_one():
    assert name(schedule="cosine") != name(schedule="cosine", steps=200)
