"""Which runs go on from each other's training states, and which give one checkpoint."""

from flows.train import states_name
from schemas.manifest import ArtifactRef, Recipe
from schemas.train_config import TrainConfig

BASE = ArtifactRef(kind="model", key="a" * 64, digest="b" * 64)
OTHER = ArtifactRef(kind="model", key="a" * 64, digest="c" * 64)


def recipe(config, base=BASE):
    return Recipe(kind="checkpoint", stage="train", inputs={"base": base}, params=config.params())


def name(base=BASE, **changes):
    config = TrainConfig(**{"steps": 100, **changes})
    return states_name(recipe(config, base), config)


def test_more_steps_go_on_from_the_states_of_fewer():
    assert name(steps=200) == name()


def test_other_weights_under_the_same_name_and_other_rates_start_anew():
    assert len({name(), name(base=OTHER), name(lr=1e-5)}) == 3


def test_a_schedule_that_ends_is_no_prefix_of_a_longer_one():
    assert name(schedule="cosine") != name(schedule="cosine", steps=200)


def test_where_the_base_is_found_is_in_no_key_but_which_one_it_is():
    here, moved = TrainConfig(base="/a/sd"), TrainConfig(base="/b/sd", revision="main")
    assert recipe(here).key == recipe(moved).key != recipe(here, OTHER).key
    assert states_name(recipe(here), here) == states_name(recipe(moved), moved)
    assert here.state_key() == moved.state_key()
