"""A writer beside gc and beside a takedown, at every step of either: never a publication without its files."""

from pathlib import Path

import pytest

from schemas.errors import VipError
from schemas.manifest import Recipe
from storage.removal import collect, leftovers, remove_leftover, take_down
from storage.store import ArtifactStore

RECIPE = Recipe(kind="shard", stage="test", params={"n": 1})


def write(folder):
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    return {}


def at_step(monkeypatch, store, step, what):
    """Do ``what`` once, before the ``step``-th write or removal of ``store``; True once it was reached."""
    seen = {"count": 0, "done": False}

    def interrupting(method):
        def call(*arguments):
            if seen["count"] == step and not seen["done"]:
                seen["done"] = True
                what()
            seen["count"] += 1
            return method(*arguments)

        return call

    for name in ("put_if_absent", "remove"):
        monkeypatch.setattr(store.backend, name, interrupting(getattr(store.backend, name)))
    return seen


def whole(store):
    """Whether what is published has all its files; nothing published is whole, too."""
    if not store.backend.exists(f"published/{RECIPE.kind}/{RECIPE.key}.json"):
        return True
    made = store.get(RECIPE.kind, RECIPE.key)
    return made is None or all(store.read(made, name) for name in made.outputs)


@pytest.mark.parametrize("step", range(6))
def test_a_run_that_writes_what_gc_is_collecting_leaves_a_whole_artifact_or_none(step, tmp_path, monkeypatch):
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    old, _ = store.build(RECIPE, write)
    seen = at_step(monkeypatch, store, step, lambda: other.build(RECIPE, write))
    collect(store, old, "no ref reached it")
    assert seen["done"] or seen["count"] <= step
    assert whole(other)
    assert other.build(RECIPE, write)[0].digest == old.digest
    assert whole(other)


@pytest.mark.parametrize("step", range(4))
def test_gc_in_the_middle_of_a_write_leaves_a_whole_artifact(step, tmp_path, monkeypatch):
    first = ArtifactStore(tmp_path)
    old, _ = first.build(RECIPE, write)
    first.backend.remove(f"published/{RECIPE.kind}/{RECIPE.key}.json")  # gc has come as far as this
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    seen = at_step(monkeypatch, store, step, lambda: collect(other, old, "no ref reached it"))
    made, _ = store.build(RECIPE, write)
    assert seen["done"]
    assert made.digest == old.digest and whole(other)
    assert other.get(RECIPE.kind, RECIPE.key) is not None


@pytest.mark.parametrize("step", range(4))
def test_a_takedown_in_the_middle_of_a_write_leaves_no_byte_of_it(step, tmp_path, monkeypatch):
    first = ArtifactStore(tmp_path)
    old, _ = first.build(RECIPE, write)
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    monkeypatch.setattr(store, "find", lambda _: None)  # it looked before the first was there
    seen = at_step(monkeypatch, store, step, lambda: take_down(other, old.ref, "asked to"))
    with pytest.raises(VipError, match="removed on purpose"):
        store.build(RECIPE, write)
    assert seen["done"]
    assert [path for path in other.backend.list("artifacts") if path.endswith(".txt")] == []


@pytest.mark.parametrize("step", range(5))
def test_a_run_that_finishes_what_an_interrupted_one_left_while_gc_removes_it(step, tmp_path, monkeypatch):
    first = ArtifactStore(tmp_path)
    first.build(RECIPE, write)
    first.backend.remove(f"published/{RECIPE.kind}/{RECIPE.key}.json")
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    found = [path for path, _ in leftovers(store.backend, 0.0)]
    assert len(found) == 3
    seen = at_step(monkeypatch, store, step, lambda: other.build(RECIPE, write))
    for path in found:
        remove_leftover(store.backend, path)
    assert seen["done"] or seen["count"] <= step
    assert whole(other)
    assert other.build(RECIPE, write)[0].outputs and whole(other)


@pytest.mark.parametrize("step", range(5))
def test_gc_that_takes_the_first_files_of_a_write_for_leftovers_leaves_a_whole_artifact(step, tmp_path, monkeypatch):
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)

    def collected_without_grace():
        for path, _ in list(leftovers(other.backend, 0.0)):
            remove_leftover(other.backend, path)

    seen = at_step(monkeypatch, store, step, collected_without_grace)
    made, _ = store.build(RECIPE, write)
    assert seen["done"] or seen["count"] <= step
    assert whole(other) and other.get(RECIPE.kind, RECIPE.key).digest == made.digest


def beside(store, text):
    """A writer of other bytes under the same key, who comes second."""

    def other(folder):
        (folder / "a.txt").write_text(text)
        return {}

    late = ArtifactStore(store.backend.url)
    late.find = lambda _: None  # it looked before the first was there
    return late.build(RECIPE, other)[0]


def test_what_a_writer_who_came_second_left_is_a_leftover_and_the_artifact_stays(tmp_path):
    store = ArtifactStore(tmp_path)
    made, _ = store.build(RECIPE, write)
    assert beside(store, "other bytes").digest == made.digest
    assert list(leftovers(store.backend, 3600.0)) == []  # it may still be writing
    for path, _ in list(leftovers(store.backend, 0.0)):
        remove_leftover(store.backend, path)
    left = [path.split("/")[3] for path in store.backend.list("artifacts")]
    assert left == [made.digest[:16]] * 3
    assert whole(store) and list(leftovers(store.backend, 0.0)) == []


def test_a_takedown_takes_what_a_writer_who_came_second_left(tmp_path):
    store = ArtifactStore(tmp_path)
    made, _ = store.build(RECIPE, write)
    beside(store, "other bytes")
    half = tmp_path / "artifacts" / RECIPE.kind / RECIPE.key / "half" / ".tmp-1"
    half.parent.mkdir()
    half.write_text("half of other bytes")
    take_down(store, made.ref, "asked to")
    left = list(store.backend.list("artifacts", unfinished=True))
    assert left == [f"artifacts/{RECIPE.kind}/{RECIPE.key}/{made.digest[:16]}/manifest.json"]


@pytest.mark.parametrize("step", range(4))
def test_gc_of_what_came_second_beside_a_collection_and_a_run_leaves_a_whole_artifact(step, tmp_path, monkeypatch):
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    old, _ = store.build(RECIPE, write)
    beside(store, "other bytes")
    found = [path for path, _ in leftovers(store.backend, 0.0)]
    assert len(found) == 2

    def the_second_is_published_now():
        collect(other, old, "no ref reached it")
        beside(other, "other bytes")

    seen = at_step(monkeypatch, store, step, the_second_is_published_now)
    for path in found:
        remove_leftover(store.backend, path)
    assert seen["done"] or seen["count"] <= step
    assert whole(other)


def test_a_file_that_its_writer_takes_away_meanwhile_is_no_leftover(tmp_path, monkeypatch):
    store = ArtifactStore(tmp_path)
    store.build(RECIPE, write)
    store.backend.remove(f"published/{RECIPE.kind}/{RECIPE.key}.json")

    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(store.backend, "modified", gone)
    assert list(leftovers(store.backend, 0.0)) == []


def test_a_folder_that_gc_prunes_under_a_writer_is_made_again(tmp_path, monkeypatch):
    backend = ArtifactStore(tmp_path).backend
    made, mkdir = [], Path.mkdir

    def pruned(folder, *arguments, **options):
        mkdir(folder, *arguments, **options)
        if folder.name == "digest" and len(made) < 2:
            made.append(folder)
            if len(made) == 1:
                folder.rmdir()

    monkeypatch.setattr(Path, "mkdir", pruned)
    assert backend.put_if_absent("artifacts/shard/key/digest/file", b"1")
    assert len(made) == 2 and backend.get("artifacts/shard/key/digest/file") == b"1"
