"""What a new checkpoint is compared with, as the log of promotions says."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.promote import rival
from schemas.manifest import Recipe
from schemas.promotion import PromotionRules
from storage.refs import Refs
from storage.store import ArtifactStore


@pytest.fixture
def world(tmp_path):
    store = ArtifactStore(tmp_path / "root")

    def checkpoint(name):
        def build(folder: Path):
            (folder / "weights").write_text(name)
            return {}

        return store.build(Recipe(kind="checkpoint", stage="test", params={"name": name}), build)[0]

    return store, Refs(store.backend), checkpoint("first"), checkpoint("second")


def test_the_first_has_no_rival(world):
    store, _, first, _ = world
    assert rival(store, "x", first.ref) == (None, False)


def test_the_second_meets_the_promoted_one_and_a_run_repeated_meets_the_same(world):
    store, refs, first, second = world
    refs.set("promoted/x", first.ref)
    assert rival(store, "x", second.ref) == (first, False)
    refs.set("promoted/x", second.ref)
    assert rival(store, "x", second.ref) == (first, False)


def test_what_a_person_rolled_back_stays_back(world):
    store, refs, first, second = world
    for one in (first, second, first):
        refs.set("promoted/x", one.ref)
    assert rival(store, "x", second.ref) == (first, True)


def test_what_a_better_one_took_the_place_of_was_not_rolled_back(world):
    store, refs, first, second = world
    for one in (first, second):
        refs.set("promoted/x", one.ref)
    assert rival(store, "x", first.ref) == (second, False)
    refs.set("promoted/x", first.ref)  # now a person goes back, and a later promotion does not undo that
    third = store.build(Recipe(kind="checkpoint", stage="test"), lambda folder: (folder / "w").write_text("3") and {})
    refs.set("promoted/x", third[0].ref)
    assert rival(store, "x", second.ref) == (third[0], True)
    assert rival(store, "x", first.ref) == (third[0], False)


@pytest.mark.parametrize(
    "rules", [{"metrics": ["frechet_distance"]}, {"margins": {"obedience": 0.1}}, {"margins": {"kid": -1}}]
)
def test_rules_that_cannot_be_kept_are_refused(rules):
    with pytest.raises(ValidationError):
        PromotionRules.model_validate(rules)
