"""One byte anywhere, a file too few or too many, a link that leads nowhere: verify names the file."""

import pytest

from schemas.manifest import ArtifactRef
from tests.tamper import files_of, flipped, mentioned, named
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


def test_a_lost_publication_is_found_by_those_that_name_it(root, place):
    shard = root.shards["scenes"][0]
    (place / "published" / "shard" / f"{shard.key}.json").unlink()
    assert f"shard {shard.key[:12]}" in mentioned(place)


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
    root.store.remove(shard.ref, "taken down")
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
