"""From a source to a dataset: the same images give the same bytes, and nothing bad stops the run."""

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from schemas.sharding import RejectReason, ShardSettings
from schemas.tables import NAMES, SAMPLES, SHARD_REJECTS, SHARDS, SOURCE_REJECTS
from storage.answers import key_bits
from storage.items import read_rows
from storage.refs import Refs
from storage.removal import take_down
from storage.shards import read_one, read_samples
from storage.store import ArtifactStore
from storage.suppression import suppress
from storage.tables import read_table
from vip.sharding import build, spool
from vip.sharding.build import build_dataset, build_shard, previous_bits, shard_source, standing_shards
from vip.sharding.scan import resolve_bits, scan_source, split_of

THREE_BITS = ShardSettings(bits=3)


def shards_of(store, dataset):
    return {role: store.require(ref) for role, ref in dataset.inputs.items()}


def samples_of(store, dataset):
    rows = []
    for shard in shards_of(store, dataset).values():
        rows += read_table(store.read(shard, "samples.parquet"), SAMPLES).to_pylist()
    return {row["image_sha256"]: row for row in rows}


def names_of(store, dataset):
    return sorted(row["name"] for row in read_table(store.read(dataset, "names.parquet"), NAMES).to_pylist())


def rejects_of(store, dataset):
    rows = read_table(store.read(dataset, "rejects.parquet"), SOURCE_REJECTS).to_pylist()
    return {row["name"]: RejectReason(row["reason"]) for row in rows}


def digests(dataset):
    return {role: ref.digest for role, ref in dataset.inputs.items()}


@pytest.fixture(scope="module")
def pictures(encoded):
    return [encoded(seed, form=("PNG", "JPEG")[seed % 2]) for seed in range(40)]


def test_photographs_become_a_dataset_that_keeps_their_bytes(store, fill, photographs):
    dataset = shard_source(store, fill(photographs), THREE_BITS)
    rows = samples_of(store, dataset)
    assert names_of(store, dataset) == sorted(photographs)
    assert {row["mode"] for row in rows.values()} == {"RGB", "L", "RGBA"}
    kept = {}
    for role, shard in shards_of(store, dataset).items():
        local = store.local(shard)
        for sample in read_samples(str(local / "samples.tar")):
            assert f"{int(sample.image_sha256[:1], 16):04b}".startswith(role.removeprefix("shard/"))
            kept[sample.image_sha256] = sample.data
            with Image.open(io.BytesIO(sample.data)) as image:
                row = rows[sample.image_sha256]
                assert (image.format, image.size, image.mode) == (
                    row["format"],
                    (row["width"], row["height"]),
                    row["mode"],
                )
            assert read_one(store, shard, row) == sample.data
            assert sample.meta == {
                key: row[key] for key in ("image_sha256", "format", "width", "height", "orientation", "mode")
            }
    assert kept == {sha256_hex(data): data for data in photographs.values()}
    assert Refs(store.backend).get("dataset/images") == dataset.ref


def test_the_join_holds_one_shard_at_a_time_and_says_which_one_is_gone(store, fill, pictures):
    source = fill({f"{n}.x": data for n, data in enumerate(pictures)})
    whole = shard_source(store, source, ShardSettings(bits=4))
    seen, most = [], []
    find = store.find

    def watched(recipe):
        most.append(sum(one() is not None for one in seen))
        found = find(recipe)
        if recipe.kind == "shard":
            seen.append(weakref.ref(found))
        return found

    store.find = watched
    scan = scan_source(source, ShardSettings(bits=4))
    assert build_dataset(store, scan, standing_shards(store, scan)) == whole
    assert len(seen) == len(whole.inputs) > 10 and max(most) == 1
    store.find = find
    role, ref = next(iter(whole.inputs.items()))
    take_down(store, ref, "a test")
    with pytest.raises(VipError, match=f"shard {role.removeprefix('shard/')} was removed while the dataset was made"):
        build_dataset(store, scan, standing_shards(store, scan))


def test_stock_webdataset_reads_a_shard(store, fill, pictures):
    dataset = shard_source(store, fill({f"{n}.x": data for n, data in enumerate(pictures)}), ShardSettings(bits=1))
    seen = {}
    for shard in shards_of(store, dataset).values():
        path = str(store.local(shard) / "samples.tar")
        for sample in webdataset.WebDataset(path, shardshuffle=False).decode("pil"):
            seen[sample["__key__"]] = sample["json"]
            picture = sample.get("png") or sample.get("jpg")
            assert picture.size == (sample["json"]["width"], sample["json"]["height"])
    assert set(seen) == {sha256_hex(data) for data in pictures}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), workers=st.integers(1, 4), clock=st.integers(0, 2**31))
def test_order_names_clock_and_workers_change_no_shard(tmp_path_factory, pictures, seed, workers, clock):
    random.seed(seed)
    place = tmp_path_factory.mktemp("any")
    for data in random.sample(pictures, len(pictures)):
        folder = place / random.choice(["a", "b/c", "."])
        folder.mkdir(parents=True, exist_ok=True)
        ending = random.choice(["", ".png", ".JPG", ".txt", " ü\n"])
        path = folder / f"{random.getrandbits(60):x}{ending}"
        path.write_bytes(data)
        os.utime(path, (clock, clock))
        path.chmod(random.choice([0o600, 0o644]))
    dataset = shard_source(ArtifactStore(tmp_path_factory.mktemp("root")), str(place), THREE_BITS, workers=workers)
    first = test_order_names_clock_and_workers_change_no_shard.__dict__.setdefault("first", digests(dataset))
    assert digests(dataset) == first
    assert len(first) == 8


def test_folder_tar_and_parquet_of_the_same_images_are_the_same_shards(store, fill, tmp_path, pictures):
    files = {f"{n:02}.jpg": data for n, data in enumerate(pictures)}
    folder = fill(files)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(folder, "some")
    table = pa.table({"image": [{"bytes": data, "path": name} for name, data in files.items()], "label": [1] * 40})
    pq.write_table(table, tmp_path / "all.parquet", row_group_size=7)
    made = [shard_source(store, folder, THREE_BITS)]
    made.append(shard_source(ArtifactStore(tmp_path / "2"), str(tmp_path / "all.tar"), THREE_BITS))
    made.append(shard_source(ArtifactStore(tmp_path / "3"), str(tmp_path / "all.parquet"), THREE_BITS))
    made.append(shard_source(ArtifactStore("memory://four"), str(tmp_path / "*.tar"), THREE_BITS))
    assert all(digests(one) == digests(made[0]) for one in made)
    assert names_of(ArtifactStore(tmp_path / "2"), made[1])[0] == "all.tar/some/00.jpg"
    assert names_of(ArtifactStore(tmp_path / "3"), made[2])[0] == "all.parquet/00.jpg"


def test_one_changed_image_rebuilds_at_most_two_shards_and_a_new_name_none(store, fill, encoded, pictures):
    folder = fill({f"{n}.png": data for n, data in enumerate(pictures)})
    before = shard_source(store, folder, THREE_BITS)
    Path(folder, "0.png").rename(Path(folder, "renamed.png"))
    renamed = shard_source(store, folder, THREE_BITS)
    assert digests(renamed) == digests(before) and renamed.key != before.key
    Path(folder, "7.png").write_bytes(encoded(999))
    after = shard_source(store, folder, THREE_BITS)
    changed = {role for role in digests(before) if digests(before)[role] != digests(after).get(role)}
    # The old image leaves its shard and the new one joins its own; no other shard is touched.
    assert changed == {f"shard/{key_bits(sha256_hex(data), 3)}" for data in (pictures[7], encoded(999))}


def test_changed_bytes_behind_unchanged_path_size_and_time_are_seen(store, fill, encoded):
    one, two = (encoded(seed, form="BMP") for seed in (1, 2))
    assert len(one) == len(two)
    folder = fill({"a.bmp": one})
    path = Path(folder, "a.bmp")
    os.utime(path, (1, 1))
    shard_source(store, folder, THREE_BITS)
    path.write_bytes(two)
    os.utime(path, (1, 1))
    assert set(samples_of(store, shard_source(store, folder, THREE_BITS))) == {sha256_hex(two)}


def test_nothing_is_decoded_again_not_even_what_was_rejected(store, fill, pictures, monkeypatch):
    folder = fill({**{f"{n}": data for n, data in enumerate(pictures)}, "cut": pictures[1][:300]})
    first = shard_source(store, folder, THREE_BITS)
    monkeypatch.setattr(build, "inspect_image", lambda *_, **__: pytest.fail("decoded again"))
    again = shard_source(store, folder, THREE_BITS)
    assert again == first
    assert rejects_of(store, again) == {"cut": RejectReason.TRUNCATED}


def test_the_number_of_bits_does_not_flip(store, fill, pictures):
    settings_ = ShardSettings(samples_per_shard=5)
    folder = fill({f"{n}": data for n, data in enumerate(pictures[:20])})
    assert shard_source(store, folder, settings_).params["bits"] == 2
    fill({f"{n}": data for n, data in enumerate(pictures)})
    assert shard_source(store, folder, settings_).params["bits"] == 2
    assert previous_bits(store, "images") == 2 and previous_bits(store, "other") is None
    assert resolve_bits(2000 * 8, ShardSettings(), None) == 3
    assert resolve_bits(2000 * 8 * 4, ShardSettings(), 3) == 3
    assert resolve_bits(2000 * 8 * 5, ShardSettings(), 3) == 5
    assert resolve_bits(2000, ShardSettings(), 3) == 1
    assert resolve_bits(3, ShardSettings(), 1) == 1
    assert resolve_bits(10**9, ShardSettings(bits=4), 7) == 4


def test_duplicates_are_one_sample_with_all_names_and_test_wins(store, fill, encoded):
    data = encoded(1)
    folder = fill({"train/a.png": data, "val/b.png": data, "c.png": data, "train/d.png": encoded(2)})
    dataset = shard_source(store, folder, THREE_BITS)
    assert {sha: row["split"] for sha, row in samples_of(store, dataset).items()} == {
        sha256_hex(data): "test",
        sha256_hex(encoded(2)): "train",
    }
    assert names_of(store, dataset) == ["c.png", "train/a.png", "train/d.png", "val/b.png"]
    assert dataset.stats["duplicates"] == 2


def test_splits_come_from_containers_settings_and_else_the_key(store, fill, tmp_path, encoded):
    folder = Path(fill({f"{n}.png": encoded(n) for n in range(5)}, "in/Held-Out"))
    pq.write_table(pa.table({"img": [encoded(7)]}), tmp_path / "in" / "test-00000-of-00001.parquet")
    held = ShardSettings(splits={"held-out": "test", "test": "test"}, test_share=0)
    dataset = shard_source(store, str(folder.parent), held)
    assert dataset.stats["test"] == 6
    by_key = shard_source(store, str(folder.parent), ShardSettings(splits={}, test_share=0.5))
    for sha, row in samples_of(store, by_key).items():
        assert row["split"] == split_of(sha, 0.5)


def test_the_split_is_independent_of_the_shard():
    keys = [sha256_hex(str(number).encode()) for number in range(20_000)]
    for bit in "01":
        mine = [key for key in keys if f"{int(key[0], 16):04b}"[0] == bit]
        assert abs(sum(split_of(key, 0.1) == "test" for key in mine) / len(mine) - 0.1) < 0.01


def test_a_dataset_of_other_splits_has_another_digest_and_says_who_is_in_which(store, fill, pictures):
    source = fill({f"{number}.png": data for number, data in enumerate(pictures[:8])})
    made = [shard_source(store, source, ShardSettings(bits=1, test_share=share)) for share in (0.0, 1.0)]
    assert made[0].digest != made[1].digest
    for dataset, split in zip(made, ("train", "test"), strict=True):
        names = read_table(store.read(dataset, "names.parquet"), NAMES).to_pylist()
        assert len(names) == 8 and {row["split"] for row in names} == {split}
        rows = read_table(store.read(dataset, "shards.parquet"), SHARDS).to_pylist()
        assert {f"shard/{row['shard']}": row["digest"] for row in rows} == digests(dataset)
        assert sum(row[split] for row in rows) == sum(row["samples"] for row in rows) == 8


def test_what_is_suppressed_never_comes_in(store, fill, pictures):
    folder = fill({f"{n}": data for n, data in enumerate(pictures[:9])})
    unwanted = sha256_hex(pictures[4])
    everything = shard_source(store, folder, THREE_BITS)
    suppress(store, [unwanted], "asked for")
    dataset = shard_source(store, folder, THREE_BITS)
    assert unwanted in samples_of(store, everything)
    assert unwanted not in samples_of(store, dataset)
    assert rejects_of(store, dataset) == {"4": RejectReason.SUPPRESSED}
    assert dataset.params["suppressed"] != everything.params["suppressed"]
    assert len(set(digests(everything).items()) - set(digests(dataset).items())) == 1


def test_bad_files_go_to_the_rejects_and_good_ones_come_through(store, fill, encoded):
    good = encoded(1, (40, 40), form="JPEG")
    files = {
        "good.jpg": good,
        "lies.txt": encoded(2),
        "empty.png": b"",
        "cut.jpg": good[:-200],
        "text.jpg": b"hello",
        "notes.md": b"# notes",
        "good.txt": b"a caption beside its image",
        ".hidden.jpg": good,
        "big.bin": bytes(200_000),
        "wide.png": encoded(3, (200, 100)),
        "weird \n😀.png": encoded(4),
        "x" * 251 + ".png": encoded(5),
    }
    folder = fill(files)
    os.mkfifo(Path(folder, "pipe.jpg"))
    Path(folder, "loop").symlink_to(folder)
    Path(folder, "self").symlink_to(Path(folder, "self"))
    Path(folder, "dangling.jpg").symlink_to("/nowhere/at/all")
    Path(folder, os.fsdecode(b"\xff.png")).write_bytes(encoded(6))
    settings_ = ShardSettings(bits=1, max_pixels=10_000, max_bytes=100_000)
    dataset = shard_source(store, folder, settings_)
    assert names_of(store, dataset) == sorted(
        ["good.jpg", "lies.txt", "weird \n😀.png", "x" * 251 + ".png", "\\xff.png"]
    )
    assert rejects_of(store, dataset) == {
        "empty.png": RejectReason.EMPTY,
        "cut.jpg": RejectReason.TRUNCATED,
        "text.jpg": RejectReason.NOT_AN_IMAGE,
        "notes.md": RejectReason.NOT_AN_IMAGE,
        "big.bin": RejectReason.TOO_LARGE,
        "wide.png": RejectReason.TOO_MANY_PIXELS,
        "pipe.jpg": RejectReason.NOT_A_FILE,
        "loop": RejectReason.SYMLINK_LOOP,
        "self": RejectReason.SYMLINK_LOOP,
        "dangling.jpg": RejectReason.UNREADABLE,
    }
    assert (dataset.stats["hidden"], dataset.stats["sidecars"]) == (1, 1)


def test_a_shard_without_a_good_image_is_left_out_and_a_dataset_without_one_is_refused(store, fill, encoded):
    good = encoded(1, form="JPEG")
    other = (
        next(good[:-n] for n in range(30, 300) if sha256_hex(good[:-n])[0] > "7" > sha256_hex(good)[0])
        if (sha256_hex(good)[0] < "7")
        else next(good[:-n] for n in range(30, 300) if sha256_hex(good[:-n])[0] < "8")
    )
    dataset = shard_source(store, fill({"a": good, "b": other}), ShardSettings(bits=1))
    assert len(dataset.inputs) == 1 and rejects_of(store, dataset) == {"b": RejectReason.TRUNCATED}
    with pytest.raises(
        VipError, match=r"no image in .* can be used: 1 rejected, such as 'b' \(image file is truncated"
    ):
        shard_source(store, fill({"b": other}, "only-bad"), ShardSettings(bits=1))


def test_the_rejects_of_a_shard_carry_no_names(store, fill, encoded):
    cut = encoded(1, form="JPEG")[:-100]
    scan = scan_source(fill({"secret-name.jpg": cut}), ShardSettings(bits=1))
    shard = build_shard(store, scan, scan.prefixes[0])
    rows = read_table(store.read(shard, "rejects.parquet"), SHARD_REJECTS).to_pylist()
    assert [row["image_sha256"] for row in rows] == [sha256_hex(cut)]
    assert all(b"secret" not in store.read(shard, name) for name in shard.outputs)


def test_a_file_that_changes_between_scan_and_build_is_named(store, fill, encoded):
    folder = fill({"a.png": encoded(1)})
    scan = scan_source(folder, THREE_BITS)
    Path(folder, "a.png").write_bytes(encoded(2))
    with pytest.raises(VipError, match=r"'a\.png' changed while it was being read; run again"):
        build_shard(store, scan, scan.prefixes[0])


def test_one_shard_of_a_scan_is_enough_to_build_it_elsewhere(store, fill, pictures, tmp_path):
    scan = scan_source(fill({f"{n}": data for n, data in enumerate(pictures)}), THREE_BITS)
    other = ArtifactStore(tmp_path / "other")
    for prefix in scan.prefixes:
        part = scan.only([prefix])
        assert len(part.members) < len(scan.members)
        assert build_shard(other, part, prefix).digest == build_shard(store, scan, prefix).digest


def test_sources_that_hold_nothing_say_what_to_do(store, tmp_path, fill):
    (tmp_path / "void").mkdir()
    cases = {
        str(tmp_path / "missing"): "does not exist; give a folder",
        str(tmp_path / "void"): "holds no images and no other files; give a folder",
        str(tmp_path / "*.tar"): "nothing matches",
        fill({"a.txt": b"text"}): r"1 of 1 rejected as not_an_image, such as 'a.txt'",
        fill({"a.txt": b"text"}) + "/a.txt": "neither a folder nor a .tar or .parquet file",
    }
    for source, message in cases.items():
        with pytest.raises(VipError, match=message):
            shard_source(store, source, THREE_BITS)


def test_parquet_rows_are_fetched_in_one_pass_and_only_for_shards_that_are_missing(
    store, fill, tmp_path, pictures, encoded, monkeypatch
):
    groups = []

    def counted(path, column, group, rows):
        groups.append(group)
        return read_rows(path, column, group, rows)

    monkeypatch.setattr(spool, "read_rows", counted)
    path = tmp_path / "all.parquet"
    pq.write_table(pa.table({"image": pictures}), path, row_group_size=10)
    first = shard_source(store, str(path), THREE_BITS)
    assert groups == [0, 1, 2, 3]
    shard_source(store, str(path), THREE_BITS)
    assert groups == [0, 1, 2, 3]
    pq.write_table(pa.table({"image": [*pictures, encoded(77)]}), path, row_group_size=10)
    second = shard_source(store, str(path), THREE_BITS)
    assert len(groups) <= 9
    assert len(set(digests(second).items()) - set(digests(first).items())) == 1
    scan = scan_source(str(path), THREE_BITS)
    alone = build_shard(ArtifactStore(tmp_path / "alone"), scan, scan.prefixes[0])
    assert alone.digest == second.inputs[f"shard/{scan.prefixes[0]}"].digest


def test_sources_far_away(store, pictures):
    files = fsspec.filesystem("memory")
    for number, data in enumerate(pictures[:6]):
        files.pipe_file(f"/far/{'train' if number else 'val'}/{number}.png", data)
    dataset = shard_source(store, "memory://far", THREE_BITS)
    assert names_of(store, dataset) == [
        "train/1.png",
        "train/2.png",
        "train/3.png",
        "train/4.png",
        "train/5.png",
        "val/0.png",
    ]
    assert (dataset.stats["train"], dataset.stats["test"]) == (5, 1)
    files.pipe_file("/far/rows.parquet", b"")
    with io.BytesIO() as file:
        pq.write_table(pa.table({"image": pictures[:6]}), file)
        files.pipe_file("/far/rows.parquet", file.getvalue())
    from_rows = shard_source(store, "memory://far/rows.parquet", ShardSettings(bits=3, name="rows"))
    assert from_rows.stats["samples"] == 6
    assert names_of(store, shard_source(store, "memory://far/*/*.png", THREE_BITS)) == names_of(store, dataset)
    for source, message in (("memory://none", "holds no files"), ("nosuch://x/y", "Protocol not known")):
        with pytest.raises(VipError, match=message):
            shard_source(store, source, THREE_BITS)


def test_two_at_once_make_one_dataset(store, fill, pictures):
    folder = fill({f"{n}": data for n, data in enumerate(pictures)})
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: shard_source(store, folder, THREE_BITS, workers=2), range(4)))
    assert all(one == made[0] for one in made)
    assert len(list(store.list("shard"))) == 8 and len(list(store.list("dataset"))) == 1


_RUN = """
import sys
from schemas.sharding import ShardSettings
from storage.store import ArtifactStore
from vip.sharding.build import shard_source
print("ready", flush=True)
shard_source(ArtifactStore(sys.argv[2]), sys.argv[1], ShardSettings(bits=4), workers=2)
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_bytes(store, fill, encoded, tmp_path):
    folder = fill({f"{n}": encoded(n, (300, 200)) for n in range(200)})
    undisturbed = shard_source(ArtifactStore(tmp_path / "other"), folder, ShardSettings(bits=4))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    random.seed(0)
    for _ in range(8):
        command = [sys.executable, "-c", _RUN, folder, str(tmp_path / "root")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True)
        process.stdout.readline()
        time.sleep(random.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    dataset = shard_source(store, folder, ShardSettings(bits=4))
    assert (dataset.key, dataset.digest) == (undisturbed.key, undisturbed.digest)
    assert digests(dataset) == digests(undisturbed)
    for shard in shards_of(store, dataset).values():
        for name, output in shard.outputs.items():
            assert sha256_hex(store.read(shard, name)) == output.sha256


def test_progress_is_told(store, fill, pictures):
    told = []
    folder = fill({f"{n}": data for n, data in enumerate(pictures)})
    shard_source(store, folder, ShardSettings(bits=1), progress=lambda *what: told.append(what))
    assert ("files read", 40, 0) in told and ("shards", 2, 2) in told
