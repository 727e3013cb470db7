"""A person's word on a promotion is asked once, and kept with the decision."""

import json
from pathlib import Path

import pytest

from schemas.approval import Approval
from schemas.manifest import Recipe
from schemas.promotion import PromotionRules
from storage.store import ArtifactStore
from vip.evaluation.promote import ROLLED_BACK, judge_promotion

RULES = PromotionRules()


@pytest.fixture
def examined(tmp_path):
    store = ArtifactStore(tmp_path / "root")

    def build(folder: Path):
        (folder / "metrics").write_text("figures")
        return {}

    return store, store.build(Recipe(kind="evaluation", stage="test"), build)[0]


@pytest.mark.parametrize(
    ("approve", "sentence"), [(True, "approved by Ada: sharper"), (False, "refused by Ada: sharper")]
)
def test_a_person_decides_where_the_rules_are_kept(examined, approve, sentence):
    store, evaluation = examined
    asked = []

    def agree(reasons):
        asked.append(reasons)
        return Approval(approve=approve, by="Ada", note="sharper")

    for _ in range(2):
        made = judge_promotion(store, evaluation, None, RULES, agree=agree)
        assert made.stats["promoted"] is approve
        assert made.stats["reasons"] == ["nothing was promoted before", sentence]
    assert asked == [["nothing was promoted before"]]
    assert json.loads(store.read(made, "approval.json"))["by"] == "Ada"
    assert judge_promotion(store, evaluation, None, RULES).key != made.key  # the same without a person is another


def test_nobody_is_asked_about_what_the_rules_refuse(examined):
    store, evaluation = examined

    def agree(reasons):
        raise AssertionError("asked for nothing")

    made = judge_promotion(store, evaluation, None, RULES, rolled_back=True, agree=agree)
    assert not made.stats["promoted"] and made.stats["reasons"][0] == ROLLED_BACK
    assert "approval.json" not in made.outputs
