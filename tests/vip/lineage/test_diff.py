"""What changed between two of a kind, and the cause of every changed row."""

import pytest

from bench._lineage_root import add_captions, add_checkpoint, add_dataset, add_evaluation
from bench._lineage_rows import make_spec, picture, sha
from schemas.errors import VipError
from storage.removal import collect
from vip.lineage.checkpoint import trace_checkpoint
from vip.lineage.diff import diff


def grown(root, index):
    index.refresh()
    return index


def whats(record):
    return {(row["where"], row["what"]) for row in record["differs"]}


def test_a_changed_prompt_is_the_cause_of_every_changed_row(root, index):
    other = make_spec(prompt="Another question.")
    say = {sha(picture(n)): "ball; sea, sky" for n in range(12)} | {sha(picture(5)): ""}
    add_captions(root, "other", "scenes", other, say=say)
    record = diff(grown(root, index), "captions/keywords", "captions/other")
    assert record["rows"]["changed"] + record["rows"]["unchanged"] == 10
    assert record["rows"]["added"] == 1
    assert record["rows"]["removed"] == 1
    assert record["causes"]["removed: rejected (empty)"] == 1
    assert record["causes"]["changed: prompt"] == record["rows"]["changed"]
    change = next(row for row in record["changes"] if row["what"] == "changed")
    assert change["second"] == "ball | sea, sky"
    assert ("caption_set > captions", "spec.templates.joint") in whats(record)
    assert record["own_disagreement"]["asked_more_than_once"] == 0


def test_words_that_are_left_out_are_a_change_of_reading(root, index):
    other = make_spec("other").model_copy(update={"leave_out": ("sea",)})
    add_captions(root, "other", "scenes", other, say={sha(picture(n)): "ball; sky" for n in range(12)})
    record = diff(grown(root, index), "captions/keywords", "captions/other")
    assert record["causes"]["changed: reading of the answers"] == record["rows"]["changed"] > 0


def test_code_with_uncommitted_changes_differs_from_the_commit(root, index):
    other = add_checkpoint(root, "keywords", "scenes", seed=7)
    index.refresh()
    index.db.execute("UPDATE artifact SET dirty = (key = ?)", (other.key,))
    assert whats(diff(index, "promoted", other.key)) == {
        ("checkpoint", "seed"),
        ("checkpoint", "code with uncommitted changes"),
    }


def test_shards_that_both_share_are_unchanged_without_being_read(root, index, tmp_path):
    images = {f"scene-{number}.png": picture(number) for number in range(12)} | {"new.png": picture(100)}
    add_dataset(root, "scenes", images)
    add_captions(root, "newer", "scenes", make_spec(), say={sha(picture(3)): ""})
    record = diff(grown(root, index), "captions/keywords", "captions/newer")
    assert record["rows"] == {"unchanged": 11, "changed": 0, "added": 1, "removed": 0}


def test_what_two_checkpoints_were_computed_on_is_a_difference_between_them(root, index):
    machines = [{"device": "CPU, AVX2", "threads": threads} for threads in (1, 8)]
    one, other = (
        add_checkpoint(root, "keywords", "scenes", seed=20 + seed, stats={"machine": machine})
        for seed, machine in enumerate(machines)
    )
    record = diff(grown(root, index), one.key, other.key)
    assert whats(record) == {("checkpoint", "seed"), ("checkpoint", "machine threads")}
    assert trace_checkpoint(index, other.key)["made_by"]["machine"] == machines[1]


def test_captions_that_were_collected_are_said_to_be_gone(root, index):
    add_captions(root, "other", "scenes", make_spec("other", prompt="Another question."))
    for part in root.captions["other"]:
        collect(root.store, part, "no ref reached it")
    with pytest.raises(VipError, match=r"captions \w+ does not stand: no ref reached it"):
        diff(grown(root, index), "captions/keywords", "captions/other")


def test_checkpoints_differ_in_a_setting_or_in_what_they_were_trained_on(root, index):
    seed = add_checkpoint(root, "keywords", "scenes", seed=7)
    record = diff(grown(root, index), "promoted", seed.key[:10])
    assert whats(record) == {("checkpoint", "seed")}
    add_captions(root, "other", "scenes", make_spec(prompt="Another question."))
    captions = add_checkpoint(root, "other", "scenes", seed=0)
    record = diff(grown(root, index), "promoted", captions.key)
    assert ("checkpoint", "caption_set") in whats(record)
    assert ("checkpoint > caption_set > captions", "spec.templates.joint") in whats(record)
    assert ("checkpoint", "seed") not in whats(record)


def test_why_a_figure_moved(root, index):
    add_evaluation(root, add_checkpoint(root, "keywords", "scenes", seed=7), "keywords", "scenes", figures=2)
    index.refresh()
    ids = [row["id"] for row in index.db.execute("SELECT id FROM metric WHERE metric = 'kid'")]
    record = diff(index, ids[0], ids[1])
    assert record["moved"] == {"by": 0.0, "comparable": True}
    assert whats(record) == {("evaluation", "checkpoint"), ("evaluation > checkpoint", "seed")}


def test_the_same_thing_does_not_differ(index):
    assert diff(index, "promoted", "latest")["differs"] == []


def test_two_kinds_cannot_be_compared(index):
    with pytest.raises(VipError, match="a checkpoint and a dataset cannot be compared"):
        diff(index, "promoted", "dataset/scenes")


def test_an_id_that_fits_a_figure_and_an_artifact_is_refused(root, index):
    metric = index.db.execute("SELECT id FROM metric").fetchone()["id"]
    index.db.execute("INSERT INTO artifact (kind, key, state) VALUES ('gate', ?, 'live')", (metric[:8] + "0" * 56,))
    with pytest.raises(VipError, match=f"fits a figure as well as gate/{metric[:8]}"):
        diff(index, metric[:8], metric[:8])
    assert diff(index, metric, metric)["differs"] == []
