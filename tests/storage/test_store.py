"""The artifact store: keys before, digests after, published last, once."""

import threading
from pathlib import Path

import pytest

from schemas.errors import VipError
from schemas.manifest import Recipe
from storage.refs import Refs
from storage.removal import take_down
from storage.store import ArtifactStore


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def store(request, tmp_path):
    if request.param == "s3":
        root = request.getfixturevalue("s3_root")
    else:
        root = tmp_path / "root" if request.param == "local" else f"memory://{tmp_path.name}-{id(request)}"
    return ArtifactStore(str(root))


def recipe(**params):
    return Recipe(kind="shard", stage="test", params=params)


def writes(text):
    def build(folder: Path):
        (folder / "data.txt").write_text(text)
        return {"rows": {"data.txt": 1}, "seen": 1}

    return build


def test_a_recipe_is_found_before_the_work_starts(store):
    assert store.find(recipe(n=1)) is None
    made, fresh = store.build(recipe(n=1), writes("hello"))
    again, fresh_again = store.build(recipe(n=1), writes("never called"))
    assert fresh and not fresh_again
    assert again == made
    assert store.read(made, "data.txt") == b"hello"
    assert made.outputs["data.txt"].rows == 1
    assert made.stats == {"seen": 1}


def test_key_depends_on_params_inputs_and_stage_version_only(store):
    base = recipe(a=1, b=2)
    assert base.key == recipe(b=2, a=1).key
    assert base.key != recipe(a=1, b=3).key
    assert base.key != base.model_copy(update={"stage_version": 2}).key
    made, _ = store.build(base, writes("x"))
    with_input = Recipe(kind="dataset", stage="t", inputs={"shard/0": made.ref})
    moved = made.ref.model_copy(update={"key": "0" * 64})
    assert with_input.key == Recipe(kind="dataset", stage="t", inputs={"shard/0": moved}).key


def test_two_writers_of_one_key_leave_one_artifact(store):
    barrier, seen = threading.Barrier(4), []

    def race(number):
        def build(folder: Path):
            (folder / "data.txt").write_text(f"writer {number}")
            barrier.wait()
            return {}

        seen.append(store.build(recipe(race=1), build)[0].digest)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 1
    assert len(list(store.list("shard"))) == 1


def test_a_crash_before_publication_leaves_no_artifact(store):
    def dies(folder: Path):
        (folder / "data.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build(recipe(n=2), dies)
    assert store.find(recipe(n=2)) is None
    assert store.build(recipe(n=2), writes("whole"))[1]


def test_a_changed_manifest_is_an_error_that_names_it(tmp_path):
    store = ArtifactStore(tmp_path)
    made, _ = store.build(recipe(n=3), writes("x"))
    path = next(tmp_path.rglob("manifest.json"))
    path.write_bytes(path.read_bytes().replace(b'"seen":1', b'"seen":2'))
    with pytest.raises(VipError, match=r"manifest.json is not what was published"):
        store.get("shard", made.key)


def test_a_tombstoned_artifact_is_explained_and_not_done(store):
    made, _ = store.build(recipe(n=4), writes("x"))
    take_down(store, made.ref, "asked for by its owner")
    assert store.find(recipe(n=4)) is None
    assert store.tombstone("shard", made.key).reason == "asked for by its owner"
    with pytest.raises(VipError, match="asked for by its owner"):
        store.require(made.ref)


def test_refs_move_and_keep_their_log(store):
    refs = Refs(store.backend)
    first, _ = store.build(recipe(n=5), writes("x"))
    second, _ = store.build(recipe(n=6), writes("y"))
    assert refs.get("dataset/scenery") is None
    refs.set("dataset/scenery", first.ref)
    refs.set("dataset/scenery", first.ref)
    refs.set("dataset/scenery", second.ref, note="re-captioned")
    assert refs.get("dataset/scenery") == second.ref
    assert [entry.number for entry in refs.log("dataset/scenery")] == [1, 2]
    assert refs.names() == ["dataset/scenery"]
    with pytest.raises(VipError, match="no name for a ref"):
        refs.set("../evil", first.ref)


def test_what_a_file_manager_leaves_among_the_refs_is_no_entry(store):
    refs, (made, _) = Refs(store.backend), store.build(recipe(n=1), writes("one"))
    refs.set("dataset/scenery", made.ref)
    for folder in ("refs", "refs/dataset", "refs/dataset/scenery"):
        store.backend.put_if_absent(f"{folder}/.DS_Store", b"Bud1")
        store.backend.put_if_absent(f"{folder}/notes.json", b"{}")
    assert refs.names() == ["dataset/scenery"]
    assert refs.get("dataset/scenery") == made.ref


def test_an_entry_of_a_ref_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "refs" / "name").mkdir(parents=True)
    (tmp_path / "refs" / "name" / "00000001.json").write_text('{"name": "na')
    with pytest.raises(VipError, match=r"refs/name/00000001\.json cannot be read"):
        Refs(ArtifactStore(tmp_path).backend).get("name")


def test_a_root_below_a_folder_that_looks_unfinished_lists_what_it_holds(tmp_path):
    store = ArtifactStore(tmp_path / ".tmp-here" / "root")
    made, _ = store.build(recipe(n=7), writes("x"))
    half = tmp_path / ".tmp-here" / "root" / "published" / ".tmp-1"
    half.write_text("half")
    assert [one.key for one in store.list("shard")] == [made.key]
    assert list(store.backend.list("published")) == [f"published/shard/{made.key}.json"]
