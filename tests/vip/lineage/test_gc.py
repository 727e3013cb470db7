"""Collection takes what no ref reaches, keeps what is asked for, and lets what it took be built again."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from bench._lineage_root import add_captions, add_checkpoint, add_dataset, add_evaluation
from bench._lineage_rows import make_spec, picture
from storage.removal import collect, take_down
from vip.lineage.gc import plan_gc, run_gc
from vip.lineage.index import open_index
from vip.lineage.verify import verify

NOW = timedelta(0)


def test_nothing_goes_while_refs_reach_everything(root):
    plan = plan_gc(root.store, grace=NOW)
    assert not plan.artifacts
    assert plan.kept == 10


def test_what_no_ref_reaches_goes_and_stays_known(root, tmp_path):
    old = root.checkpoints[0]
    for seed in (1, 2):
        new = add_checkpoint(root, "keywords", "scenes", seed=seed)
        add_evaluation(root, new, "keywords", "scenes")
        for name in ("latest", "promoted"):
            root.refs.set(name, new.ref)
    plan = plan_gc(root.store, grace=NOW)
    assert {made.key for made in plan.artifacts} == {old.key, root.evaluations[0].key}
    assert plan.bytes > 0
    run_gc(root.store, plan)
    assert root.store.get("checkpoint", old.key) is None
    assert not list((tmp_path / "root" / "artifacts" / "checkpoint").glob(f"{old.key}*"))
    found = verify(root.store.backend)
    assert found.ok, found.problems
    assert any("no ref reached it" in note.problem for note in found.notes)
    index = open_index(root.store.backend.url)
    row = index.db.execute("SELECT state, problem, digest FROM artifact WHERE key = ?", (old.key,)).fetchone()
    assert tuple(row) == ("removed", "no ref reached it", old.digest)
    index.close()
    assert not plan_gc(root.store, grace=NOW).artifacts


@pytest.mark.parametrize("when", ["before the first removal", "between two removals"])
def test_what_a_ref_is_pointed_at_while_it_is_about_to_be_taken_stays_with_all_it_was_made_from(when, root):
    old = root.datasets["scenes"]
    for number in (30, 40, 50):
        add_dataset(root, "scenes", {f"{number + one}.png": picture(number + one) for one in range(8)})
    for name in ("latest", "promoted", "captions/keywords"):
        for _ in range(2):  # nothing else reaches the old images
            root.refs.set(name, root.datasets["scenes"].ref)
            root.refs.set(name, root.shards["scenes"][0].ref)
    plan = plan_gc(root.store, grace=NOW)
    assert old.ref in [made.ref for made in plan.artifacts[1:]]

    def point(*_):
        root.refs.set("dataset/scenes", old.ref, note="the source is as it was")

    if when == "before the first removal":
        point()
    run_gc(root.store, plan, point)
    assert root.store.get("dataset", old.key) == old
    assert all(root.store.get(ref.kind, ref.key) for ref in old.inputs.values())
    assert plan.artifacts and old.ref not in [made.ref for made in plan.artifacts]


def test_what_was_collected_can_be_built_again(root):
    for seed in (1, 2):
        root.refs.set("latest", add_checkpoint(root, "keywords", "scenes", seed=seed).ref)
    root.refs.set("promoted", root.checkpoints[1].ref)
    root.refs.set("promoted", root.checkpoints[2].ref)
    index = open_index(root.store.backend.url)
    run_gc(root.store, plan_gc(root.store, grace=NOW))
    index.refresh()
    again = add_checkpoint(root, "keywords", "scenes", seed=0)
    assert again.key == root.checkpoints[0].key
    assert root.store.get("checkpoint", again.key) == again
    assert verify(root.store.backend).ok
    index.refresh()
    assert index.db.execute("SELECT state FROM artifact WHERE key = ?", (again.key,)).fetchone()[0] == "live"
    index.close()


def test_the_young_and_what_they_need_are_spared(root):
    add_dataset(root, "more", {f"{number}.png": picture(number) for number in range(30, 40)})
    add_captions(root, "more", "more", make_spec())
    for path in (
        root.store.backend.local_path("refs/dataset/more"),
        root.store.backend.local_path("refs/captions/more"),
    ):
        for entry in path.iterdir():
            entry.unlink()
    assert not plan_gc(root.store).artifacts
    assert plan_gc(root.store).young == 6
    plan = plan_gc(root.store, grace=NOW)
    assert len(plan.artifacts) == 6
    run_gc(root.store, plan)
    assert verify(root.store.backend).ok


def test_files_of_an_interrupted_write_go(root, tmp_path):
    left = tmp_path / "root" / "artifacts" / "shard" / ("0" * 64) / ("1" * 16) / "samples.tar"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a shard")
    (left.parent / ".tmp-123").write_bytes(b"half a file")
    assert not plan_gc(root.store).leftovers
    plan = plan_gc(root.store, grace=NOW)
    assert len(plan.leftovers) == 2
    run_gc(root.store, plan)
    assert not left.parent.parent.exists()
    assert verify(root.store.backend).ok


@pytest.mark.parametrize("folder", ["answers", "collected", "published", "refs", "tombstones"])
def test_the_draft_of_a_killed_write_goes_from_every_folder_and_nothing_else(folder, root, tmp_path):
    place = tmp_path / "root"
    take_down(root.store, add_checkpoint(root, "keywords", "scenes", seed=1).ref, "asked")
    collect(root.store, root.evaluations[0], "no ref reached it")
    whole = {path for path in place.rglob("*") if path.is_file()}
    draft = next(path for path in sorted(whole) if path.relative_to(place).parts[0] == folder).parent / ".tmp-123"
    draft.write_bytes(b"half an object")
    assert not plan_gc(root.store).leftovers
    plan = plan_gc(root.store, grace=NOW)
    assert plan.leftovers == [(str(draft.relative_to(place)), len(b"half an object"))]
    run_gc(root.store, plan)
    assert {path for path in place.rglob("*") if path.is_file()} >= whole
    assert not draft.exists()
    assert verify(root.store.backend).ok


def test_a_clock_that_was_set_back_leaves_no_artifact_without_its_inputs(root, tmp_path):
    with time_machine.travel(datetime.now(UTC) - timedelta(days=2)):
        add_checkpoint(root, "keywords", "scenes", seed=1)
    shutil.rmtree(tmp_path / "root" / "refs")
    gone = plan_gc(root.store, grace=NOW).artifacts
    place = {(made.kind, made.key): number for number, made in enumerate(gone)}
    links = [(place[made.kind, made.key], place[ref.kind, ref.key]) for made in gone for ref in made.inputs.values()]
    assert links and all(consumer < consumed for consumer, consumed in links)
