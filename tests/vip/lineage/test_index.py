"""The index follows the root by itself, and what it says does not depend on how it came to be."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import bench._lineage_root
from bench._lineage_root import add_captions, add_checkpoint, add_dataset, add_evaluation, small_root
from bench._lineage_rows import make_spec, metric_row, picture
from schemas.errors import VipError
from storage.backend import Backend
from storage.removal import collect, take_down
from vip.lineage.index import LineageIndex, open_index

TABLES = {
    "artifact": "kind, key, digest, state, problem, spec_id, rows, params, outputs",
    "caption": "hex(caption.id), hex(image), row, rejected, a.key",
    "sample": "hex(image), row, split, a.key",
    "metric": "metric.id, value, a.key",
}


def contents(index):
    found = {}
    for table, columns in TABLES.items():
        join = "" if table == "artifact" else f" JOIN artifact a ON a.id = {table}.artifact"
        found[table] = sorted(map(repr, map(tuple, index.db.execute(f"SELECT {columns} FROM {table}{join}"))))
    edges = """SELECT c.kind, c.key, edge.role, p.kind, p.key, edge.digest FROM edge
        JOIN artifact c ON c.id = edge.child JOIN artifact p ON p.id = edge.parent"""
    return found | {"edge": sorted(map(tuple, index.db.execute(edges)))}


def grow(root):
    add_dataset(root, "more", {f"{number}.png": picture(number) for number in range(2, 20)}, bits=2)
    add_captions(root, "more", "more", make_spec(prompt="Another question."))
    add_evaluation(root, add_checkpoint(root, "more", "more", seed=1), "keywords", "more", figures=3)


def test_an_index_that_grew_equals_one_that_was_rebuilt(root, index):
    grow(root)
    assert index.refresh() > 0
    assert index.refresh() == 0
    grown = contents(index)
    index.rebuild()
    assert contents(index) == grown


def test_removals_and_lost_publications_are_followed(root, index, tmp_path):
    take_down(root.store, root.shards["scenes"][0].ref, "taken down")
    (tmp_path / "root" / "published" / "checkpoint" / f"{root.checkpoints[0].key}.json").unlink()
    index.refresh()
    grown = contents(index)
    states = dict(index.db.execute("SELECT key, state FROM artifact").fetchall())
    assert states[root.shards["scenes"][0].key] == "removed"
    assert states[root.checkpoints[0].key] == "missing"
    index.rebuild()
    assert contents(index)["sample"] == grown["sample"]
    states = dict(index.db.execute("SELECT key, state FROM artifact").fetchall())
    assert states[root.shards["scenes"][0].key] == "removed"
    assert states[root.checkpoints[0].key] == "missing"


def test_what_was_collected_and_built_again_with_other_bytes_is_followed(root, index):
    old = root.evaluations[0]
    collect(root.store, old, "no ref reached it")

    def write(folder):
        (folder / "notes.txt").write_text("other bytes")
        return {}

    new, fresh = root.store.build(old.recipe, write)
    assert fresh and new.key == old.key and new.digest != old.digest
    assert index.refresh() == 1
    assert index.refresh() == 0
    row = index.db.execute("SELECT digest, state FROM artifact WHERE key = ?", (old.key,)).fetchone()
    assert tuple(row) == (new.digest, "live")
    grown = contents(index)
    index.rebuild()
    assert contents(index) == grown


def test_a_broken_artifact_is_named_and_the_rest_is_indexed(root, tmp_path):
    captions = root.captions["keywords"][0]
    place = tmp_path / "root" / "artifacts" / "captions" / captions.key / captions.digest[:16] / "captions.parquet"
    whole = place.read_bytes()
    place.write_bytes(b"no parquet")
    index = open_index(root.store.backend.url)
    row = index.db.execute("SELECT state, problem FROM artifact WHERE key = ?", (captions.key,)).fetchone()
    assert row["state"] == "broken"
    assert captions.key in row["problem"]
    assert index.db.execute("SELECT count(*) FROM metric").fetchone()[0] == 2
    place.write_bytes(whole)
    index.refresh()
    assert contents(index)["artifact"] == contents(open_index(root.store.backend.url))["artifact"]
    assert index.db.execute("SELECT state FROM artifact WHERE key = ?", (captions.key,)).fetchone()[0] == "live"


def test_a_figure_that_is_no_number_breaks_its_own_artifact_and_no_question(root, monkeypatch):
    monkeypatch.setattr(bench._lineage_root, "metric_row", lambda *facts: metric_row(*facts) | {"value": float("nan")})
    exam = add_evaluation(root, root.checkpoints[0], "keywords", "scenes", figures=1)
    index = open_index(root.store.backend.url)
    states = dict(map(tuple, index.db.execute("SELECT key, state FROM artifact WHERE kind = 'evaluation'")))
    assert states == {root.evaluations[0].key: "live", exam.key: "broken"}
    index.close()


def test_a_damaged_or_deleted_index_comes_back(root, index):
    before = contents(index)
    index.close()
    for damage in (lambda path: path.write_bytes(b"x" * 9999), lambda path: path.unlink()):
        damage(index.path)
        again = open_index(root.store.backend.url)
        assert contents(again) == before
        again.close()


def test_a_root_that_is_no_folder_is_indexed_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = small_root(f"memory://{tmp_path.name}")
    index = LineageIndex(Backend(root.store.backend.url))
    assert index.refresh() == 10
    assert index.path.is_relative_to(tmp_path)
    index.close()


def test_an_index_that_another_process_writes_to_is_rebuilt_after_it_and_stays_whole(root, index):
    before, other = contents(index), LineageIndex(index.backend)
    other.db.execute("BEGIN IMMEDIATE")
    other.db.execute("DELETE FROM sample")
    with ThreadPoolExecutor(1) as pool:
        rebuilt = pool.submit(rebuild, root.store.backend.url)
        time.sleep(0.5)
        other.db.execute("COMMIT")
        assert rebuilt.result() == 10
    assert index.db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert contents(index) == contents(other) == before
    assert [path.name for path in index.path.parent.iterdir()] == [index.path.name]
    other.close()


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_an_index_that_another_process_writes_to_for_long_is_one_line(root, index, lock, monkeypatch):
    monkeypatch.setattr("vip.lineage.index._PATIENCE_SECONDS", 0.1)
    grow(root)
    index.db.execute(f"BEGIN {lock}")
    with pytest.raises(VipError, match="is being written by another command; wait"):
        open_index(root.store.backend.url)


def rebuild(url):
    index = LineageIndex(Backend(url))
    count = index.rebuild()
    index.close()
    return count
