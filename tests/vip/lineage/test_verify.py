"""One byte anywhere, a file too few or too many, a link that leads nowhere: verify names the file."""

import itertools
import os
import time
from datetime import timedelta

import pytest

from bench._lineage_root import add_captions, add_checkpoint, add_dataset, add_gate
from bench._lineage_rows import make_spec, picture
from schemas.manifest import ArtifactRef
from storage.backend import Backend
from storage.removal import take_down
from tests.tamper import files_of, flipped, mentioned, named
from vip.lineage.gc import plan_gc, run_gc
from vip.lineage.verify import verify

KINDS = ("shard", "dataset", "captions", "caption_set", "gate", "model", "checkpoint", "evaluation")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "root"


def test_a_whole_root_verifies(root):
    found = verify(root.store.backend)
    assert found.ok
    assert found.artifacts == 10
    assert found.refs == 4
    assert found.segments == 2
    assert not found.notes


def test_one_byte_flipped_in_any_file_of_any_kind_is_named(root, place):
    seen = set()
    for path in files_of(place, "artifacts"):
        for position in (0, path.stat().st_size // 2, path.stat().st_size - 1):
            with flipped(path, position):
                assert str(path.relative_to(place)) in named(place), path
        seen.add(path.relative_to(place).parts[1])
    assert seen == set(KINDS)
    assert verify(root.store.backend).ok


def test_one_byte_flipped_in_a_publication_or_in_the_answers_is_named(root, place):
    for path in files_of(place, "published", "answers"):
        size = path.stat().st_size
        for position in (0, size // 5, size // 2, size - 40, size - 1):
            with flipped(path, position):
                assert str(path.relative_to(place)) in mentioned(place), (path, position)
    assert verify(root.store.backend).ok


def test_a_deleted_file_is_named(root, place):
    for path in files_of(place, "artifacts"):
        data = path.read_bytes()
        path.unlink()
        assert str(path.relative_to(place)) in named(place)
        path.write_bytes(data)


def test_a_renamed_shard_is_found(root, place):
    tar = next(path for path in files_of(place, "artifacts") if path.name == "samples.tar")
    tar.rename(tar.with_name("renamed.tar"))
    assert named(place) == {str(one.relative_to(place)) for one in (tar, tar.with_name("renamed.tar"))}
    tar.with_name("renamed.tar").rename(tar)
    folder = tar.parent.parent
    folder.rename(folder.with_name("0" * 64))
    assert str((tar.parent / "manifest.json").relative_to(place)) in named(place)
    folder.with_name("0" * 64).rename(folder)
    one, other = files_of(place, "published/shard")
    one.rename(place / "one.json")
    other.rename(one)
    (place / "one.json").rename(other)
    assert {str(one.relative_to(place)), str(other.relative_to(place))} <= named(place)


def test_every_lost_publication_is_found_though_nothing_names_it(root, place):
    add_gate(root, "keywords")
    long_ago = time.time() - 3600  # a write that goes on publishes within a moment
    for path in files_of(place, "artifacts"):
        os.utime(path, (long_ago, long_ago))
    for path in files_of(place, "published"):
        data = path.read_bytes()
        path.unlink()
        assert path.stem in mentioned(place), path
        path.write_bytes(data)
    assert verify(root.store.backend).ok


def test_lost_answers_are_found_by_the_captions_that_were_read_from_them(root, place):
    for record in files_of(place, "answers"):
        data = record.read_bytes()
        record.unlink()
        assert named(place), record
        if record.suffix == ".json" and record.name != "spec.json":
            assert "captions.parquet" not in mentioned(place) and "was read from answers" in mentioned(place)
        record.write_bytes(data)
    assert verify(root.store.backend).ok


def test_a_dangling_ref_and_a_hole_in_a_log_are_found(root, place):
    gone = ArtifactRef(kind="checkpoint", key="0" * 64, digest="0" * 64)
    root.refs.set("promoted", gone)
    assert named(place) == {"refs/promoted/00000002.json"}
    root.refs.set("promoted", root.checkpoints[0].ref)
    (place / "refs/promoted/00000002.json").unlink()
    assert named(place) == {"refs/promoted/00000003.json"}


def test_a_removal_is_accepted_but_files_that_came_back_are_not(root, place):
    shard = root.shards["scenes"][0]
    data = root.store.read(shard, "samples.tar")
    take_down(root.store, shard.ref, "taken down")
    found = verify(root.store.backend)
    assert found.ok
    assert found.removed == 1
    assert "taken down" in found.notes[0].problem
    back = place / root.store.path(shard, "samples.tar")
    back.write_bytes(data)
    assert named(place) == {str(back.relative_to(place))}


def test_the_leftovers_of_a_crash_are_no_problem(root, place):
    left = place / "artifacts" / "shard" / ("0" * 64) / ("1" * 16) / "samples.tar"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    found = verify(root.store.backend)
    assert found.ok
    assert "interrupted" in found.notes[0].problem


def test_a_root_that_is_written_to_and_collected_meanwhile_is_whole(root, place, monkeypatch):
    looks, steps = itertools.count(1), itertools.count(1)
    busy = False

    def live():
        """What a nightly run and gc do, between any two looks of verify."""
        nonlocal busy
        look = 0 if busy else next(looks)
        if look not in (*range(1, 7), *range(10, 90, 10)):
            return
        busy = True
        number = next(steps)
        add_dataset(root, "live", {f"{n}.png": picture(100 * number + n) for n in range(4)})
        add_captions(root, "live", "live", make_spec())
        root.refs.set("latest", add_checkpoint(root, "live", "live", seed=number).ref)
        run_gc(root.store, plan_gc(root.store, history=1, grace=timedelta(0)))
        busy = False

    def between(method):
        def looked(self, *words, **options):
            live()
            return method(self, *words, **options)

        return looked

    for name in ("list", "get", "open", "exists"):
        monkeypatch.setattr(Backend, name, between(getattr(Backend, name)))
    found = verify(root.store.backend)
    monkeypatch.undo()
    assert found.ok, found.problems
    assert next(steps) == 15 and any((place / "collected").iterdir())
