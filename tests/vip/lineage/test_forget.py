"""After a takedown the bytes and the pixels are nowhere, the next build leaves them out, and the record says it all."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from bench._lineage_root import Synthetic, add_captions, add_checkpoint, add_evaluation
from bench._lineage_rows import make_spec, sha
from schemas.errors import VipError
from schemas.manifest import Recipe
from schemas.sharding import ShardSettings
from schemas.tables import GENERATED
from storage.removal import take_down
from storage.shards import read_samples
from storage.store import ArtifactStore
from storage.suppression import suppressed
from storage.tables import write_table
from tests.tamper import files_of, flipped, mentioned
from vip.lineage.forget import plan_takedown, run_takedown
from vip.lineage.index import open_index
from vip.lineage.verify import verify
from vip.sharding.build import shard_source

SETTINGS = ShardSettings(name="photos", bits=1, test_share=0.2)


def draw(number, kind="PNG", **how):
    picture = Image.new("RGB", (24, 16))
    picture.putdata([((x * number) % 251, (x + number) % 241, number % 256) for x in range(24 * 16)])
    data = io.BytesIO()
    picture.save(data, kind, **how)
    return data.getvalue()


@pytest.fixture
def source(tmp_path):
    place = tmp_path / "source"
    place.mkdir()
    for number in range(10):
        (place / f"{number}.png").write_bytes(draw(number))
    (place / "copy-of-3.png").write_bytes(draw(3))
    (place / "twin-of-3.bmp").write_bytes(draw(3, "BMP"))
    (place / "broken.png").write_bytes(draw(99)[:60])
    return place


@pytest.fixture
def root(tmp_path, source):
    made = Synthetic(ArtifactStore(tmp_path / "root", run_id="run-1"))
    dataset = shard_source(made.store, str(source), SETTINGS, workers=1)
    made.datasets["photos"] = dataset
    made.shards["photos"] = [made.store.require(ref) for ref in dataset.inputs.values()]
    add_captions(made, "keywords", "photos", make_spec())
    checkpoint = add_checkpoint(made, "keywords", "photos")
    samples = add_samples(made, checkpoint)
    add_evaluation(made, checkpoint, "keywords", "photos")
    report = Recipe(kind="report", stage="make_report", inputs={"samples": samples.ref})
    made.refs.set("latest", made.store.build(report, lambda folder: page(folder))[0].ref)
    return made


def add_samples(root, checkpoint):
    recipe = Recipe(kind="samples", stage="make_samples", inputs={"checkpoint": checkpoint.ref})

    def write(folder):
        text = {"view_json": "", "region_json": "", "setting": "oracle", "center_prompt": "", "surrounding_prompt": ""}
        numbers = {"seed": 0, "psnr_known_pasted": 100.0, "psnr_known_unpasted": 30.0}
        row = {"image_sha256": sha(draw(3)), "pasted": "a.png", "unpasted": "b.png", **text, **numbers}
        (folder / "generated.tar").write_bytes(b"tar" + draw(3))
        return {"rows": {"samples.parquet": write_table(folder / "samples.parquet", [row], GENERATED)}}

    return root.store.build(recipe, write)[0]


def page(folder):
    (folder / "report.html").write_bytes(b"<img>" + draw(3))
    return {}


def forget(root, *images, **options):
    index = open_index(root.store.backend.url)
    plan = plan_takedown(index, root.store, images)
    made = run_takedown(index, root.store, plan, "its author asked", "the data officer", **options)
    index.close()
    return json.loads(root.store.read(made, "record.json"))


def holding(place, data):
    return [path for path in place.rglob("*") if path.is_file() and data in path.read_bytes()]


def test_bytes_and_pixels_are_nowhere_and_the_record_says_what_had_used_them(root, source, tmp_path):
    assert holding(tmp_path / "root", draw(3))
    pixels = Image.open(io.BytesIO(draw(3))).tobytes()
    record = forget(root, str(source / "3.png"))
    assert not holding(tmp_path / "root", draw(3))
    assert not holding(tmp_path / "root", draw(3, "BMP"))
    dataset = root.store.require(root.refs.get("dataset/photos"))
    left = []
    for ref in dataset.inputs.values():
        shard = root.store.require(ref)
        for sample in read_samples(str(root.store.local(shard) / "samples.tar")):
            left.append(sample.image_sha256)
            assert Image.open(io.BytesIO(sample.data)).tobytes() != pixels
    assert sorted(left) == sorted(sha(draw(number)) for number in range(10) if number != 3)
    assert {row["sha256"]: row["names"] for row in record["images"]} == {
        sha(draw(3)): ["3.png", "copy-of-3.png"],
        sha(draw(3, "BMP")): ["twin-of-3.bmp"],
    }
    assert {row["kind"] for row in record["erased"]} == {"shard", "samples", "report"}
    assert len(record["captions"]) == 2
    assert record["checkpoints"][0]["key"] == root.checkpoints[0].key
    assert len(record["metrics"]) == 2
    assert record["retraining"]["checkpoints"] == 1
    assert record["signed_by"] == "the data officer"
    assert record["still_held_by"] == []
    assert record["datasets"][0]["before"] == root.datasets["photos"].digest
    assert record["datasets"][0]["after"] == dataset.digest


@pytest.mark.parametrize(("kind", "twin"), [("16 bits", "big-endian.tif"), ("floats", "packed.tif")])
def test_deep_pictures_of_one_size_are_twins_only_where_their_values_are_equal(kind, twin, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    noise = np.random.default_rng(0)
    for number in range(4):
        values = noise.integers(300, 60_000, (16, 24)) if kind == "16 bits" else noise.random((16, 24))
        Image.fromarray(values.astype(np.uint16 if kind == "16 bits" else np.float32)).save(source / f"{number}.tif")
    with Image.open(source / "0.tif") as scan:
        if kind == "floats":
            scan.save(source / twin, compression="tiff_deflate")
        else:
            Image.frombytes("I;16B", scan.size, np.asarray(scan).astype(">u2").tobytes()).save(source / twin)
    root = Synthetic(ArtifactStore(tmp_path / "root", run_id="run-1"))
    shard_source(root.store, str(source), SETTINGS, workers=1)
    record = forget(root, str(source / "0.tif"))
    assert sorted(name for image in record["images"] for name in image["names"]) == ["0.tif", twin]


def test_verify_accepts_exactly_that(root, source):
    forget(root, str(source / "3.png"))
    found = verify(root.store.backend)
    assert found.ok, found.problems
    assert sum("its author asked" in note.problem for note in found.notes) >= found.removed > 0


def test_one_byte_flipped_in_the_suppression_list_or_the_record_is_named(root, source, tmp_path):
    place = tmp_path / "root"
    forget(root, str(source / "3.png"))
    kinds = [f"{folder}/{kind}" for folder in ("artifacts", "published") for kind in ("suppression", "takedown")]
    for path in files_of(place, *kinds):
        with flipped(path, path.stat().st_size // 2):
            assert str(path.relative_to(place)) in mentioned(place), path
    assert all(files_of(place, kind) for kind in kinds)
    assert verify(root.store.backend).ok


def test_a_nightly_run_over_the_same_folder_does_not_bring_it_back(root, source, tmp_path):
    forget(root, str(source / "3.png"))
    ours = root.refs.get("dataset/photos")
    again = shard_source(root.store, str(source), SETTINGS, workers=1)
    assert not holding(tmp_path / "root", draw(3))
    before, after = (root.store.require(ref).outputs["names.parquet"] for ref in (ours, again.ref))
    assert before == after
    assert suppressed(root.store) == {sha(draw(3)), sha(draw(3, "BMP"))}


@pytest.mark.parametrize("bits", [1, 3])
def test_the_next_build_of_an_unchanged_source_is_the_version_that_the_takedown_made(bits, tmp_path):
    source = tmp_path / "source"
    for number in range(24):
        folder = source / ("train", "test", "other")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        broken = number % 4 == 1
        (folder / f"{number}.png").write_bytes(draw(number)[: 90 if broken else None])
        (folder / f"again-{number}.png").write_bytes(draw(number)[: 90 if broken else None])
    root = Synthetic(ArtifactStore(tmp_path / "root", run_id="run-1"))
    settings = ShardSettings(name="photos", bits=bits, test_share=0.5)
    before = shard_source(root.store, str(source), settings, workers=1)
    record = forget(root, *(f"other/{number}.png" for number in (2, 8, 14)))
    ours = root.store.require(root.refs.get("dataset/photos"))
    assert record["datasets"][0]["after"] == ours.digest != before.digest
    again = shard_source(root.store, str(source), settings, workers=1)
    assert again.inputs == ours.inputs
    assert again.key == ours.key


def test_an_interrupted_takedown_is_finished_by_running_it_again(root, source, tmp_path, monkeypatch):
    erased = []

    def dies(store, ref, reason):
        if erased:
            raise KeyboardInterrupt
        erased.append(ref)
        return take_down(store, ref, reason)

    with monkeypatch.context() as patch:
        patch.setattr("vip.lineage.forget.take_down", dies)
        with pytest.raises(KeyboardInterrupt):
            forget(root, str(source / "3.png"))
    assert verify(root.store.backend).ok
    record = forget(root, str(source / "3.png"))
    assert not holding(tmp_path / "root", draw(3))
    assert {row["kind"] for row in record["erased"]} == {"shard", "samples", "report"}


@pytest.mark.parametrize("again", ["file", "name", "sha256"])
def test_a_takedown_killed_behind_a_tombstone_leaves_no_byte_when_it_runs_again(again, source, tmp_path, monkeypatch):
    root = Synthetic(ArtifactStore(tmp_path / "root", run_id="run-1"))
    shard_source(root.store, str(source), SETTINGS, workers=1)
    ways = {"file": str(source / "3.png"), "name": "3.png", "sha256": sha(draw(3))}

    def dies(backend, path):
        raise KeyboardInterrupt

    for _ in range(2):  # the second finds one shard behind a tombstone, and dies at the next or at its files
        with monkeypatch.context() as patch:
            patch.setattr("storage.backend.Backend.remove", dies)
            with pytest.raises(KeyboardInterrupt):
                forget(root, "3.png")
    assert holding(tmp_path / "root", draw(3))
    record = forget(root, ways[again])
    assert not holding(tmp_path / "root", draw(3))
    assert not holding(tmp_path / "root", draw(3, "BMP"))
    assert verify(root.store.backend).ok
    searched = {row["sha256"]: row["searched"] for row in record["images"]}
    assert searched[sha(draw(3))] is (again == "file")
    assert record["searched"] is all(searched.values())
    assert {row["kind"] for row in record["erased"]} == {"shard"}


def test_a_takedown_that_is_done_can_be_asked_for_again_by_name(source, tmp_path):
    root = Synthetic(ArtifactStore(tmp_path / "root", run_id="run-1"))
    shard_source(root.store, str(source), SETTINGS, workers=1)
    first = forget(root, "3.png")
    assert all(row["searched"] for row in first["images"])
    again = forget(root, "3.png")
    assert [row["sha256"] for row in again["images"]] == [row["sha256"] for row in first["images"]]
    assert again["erased"] == first["erased"]
    assert not again["searched"]


def test_what_the_search_still_finds_is_said(root, source, tmp_path):
    (tmp_path / "root" / "scratch").mkdir()
    (tmp_path / "root" / "scratch" / "cache.bin").write_bytes(b"...." + draw(3) + b"....")
    (tmp_path / "root" / "pictures").mkdir()
    (tmp_path / "root" / "pictures" / "3.png").write_bytes(draw(3))
    record = forget(root, str(source / "3.png"))
    assert record["still_held_by"] == [{"file": "scratch/cache.bin", "image": sha(draw(3))}]
    assert record["erased_copies"] == ["pictures/3.png"]
    assert (source / "3.png").exists()


def test_the_command_ends_with_one_line_that_says_what_to_do_where_the_bytes_are_still_held(
    root, source, tmp_path, capsys
):
    from flows.cli.main import main

    (tmp_path / "root" / "scratch").mkdir()
    (tmp_path / "root" / "scratch" / "cache.bin").write_bytes(b"...." + draw(3) + b"....")
    with pytest.raises(SystemExit) as ended:
        main(["forget", str(source / "3.png"), "--reason", "asked to", "--json", "--root", str(tmp_path / "root")])
    said = capsys.readouterr()
    assert ended.value.code == 1 and json.loads(said.out)["still_held_by"]
    (line,) = said.err.splitlines()
    assert line.startswith("vip: scratch/cache.bin still holds the bytes of") and "; run it again" in line


def test_an_image_that_was_never_here_can_be_kept_out_in_advance(root, source):
    unknown = sha(draw(50))
    record = forget(root, unknown)
    assert record["erased"] == []
    (source / "new.png").write_bytes(draw(50))
    dataset = shard_source(root.store, str(source), SETTINGS, workers=1)
    assert dataset.stats["reasons"]["suppressed"] == 1


def test_a_file_that_is_called_as_another_image_of_a_dataset_is_not_taken_for_it(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "5.png").write_bytes(draw(70))
    (tmp_path / "3.png").write_bytes(draw(3))
    with pytest.raises(VipError, match=r"5\.png is a file here and also the name of another image"):
        forget(root, "5.png")
    assert suppressed(root.store) == frozenset()
    assert forget(root, "./5.png")["images"][0]["sha256"] == sha(draw(70))
    assert {row["sha256"] for row in forget(root, "3.png")["images"]} == {sha(draw(3)), sha(draw(3, "BMP"))}


def test_an_image_that_cannot_be_told_is_refused_before_anything_is_touched(root):
    with pytest.raises(VipError, match="no file, no image id"):
        forget(root, "no-such.png")
    assert suppressed(root.store) == frozenset()


def test_a_record_says_how_each_checkpoint_used_the_image_and_reckons_only_the_trained_ones_to_be_repeated(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.png").write_bytes(draw(number))
    root, hours = Synthetic(ArtifactStore(tmp_path / "root", run_id="run-1")), {}
    for name, share, seconds in (("train", 0.0, 7200.0), ("test", 1.0, 36_000.0)):
        made = shard_source(root.store, str(source), ShardSettings(name=name, bits=1, test_share=share), workers=1)
        root.shards[name] = [root.store.require(ref) for ref in made.inputs.values()]
        add_captions(root, name, name, make_spec())
        hours[add_checkpoint(root, name, name, stats={"seconds": seconds}).key] = name
    record = forget(root, "0.png")
    assert {hours[row["key"]]: row["used"] for row in record["checkpoints"]} == {
        "train": "trained on",
        "test": "in its shards, but of the test split",
    }
    assert record["retraining"] == {"checkpoints": 1, "hours": 2.0}


def test_a_run_after_what_was_found_has_been_cleared_away_leaves_a_record_that_says_so(root, source, tmp_path):
    (tmp_path / "root" / "scratch").mkdir()
    cache = tmp_path / "root" / "scratch" / "cache.bin"
    cache.write_bytes(b"...." + draw(5) + b"....")
    assert forget(root, str(source / "5.png"))["still_held_by"]
    cache.unlink()
    assert not forget(root, str(source / "5.png"))["still_held_by"]
    log = root.refs.log("takedowns")
    assert len(log) == 2
    again = forget(root, str(source / "5.png"))
    assert not again["still_held_by"] and root.refs.log("takedowns") == log  # nothing new: the same record


def test_a_dataset_that_was_made_while_the_takedown_was_planned_gets_its_next_version_too(root, source):
    index = open_index(root.store.backend.url)
    plan = plan_takedown(index, root.store, ["3.png"])
    shard_source(root.store, str(source), ShardSettings(name="later", bits=2), workers=1)
    run_takedown(index, root.store, plan, "its author asked", "the data officer")
    index.close()
    later = root.store.require(root.refs.get("dataset/later"))
    assert all(root.store.find(root.store.require(ref).recipe) for ref in later.inputs.values())


def test_a_takedown_leaves_out_what_an_interrupted_one_had_put_on_the_list(root, source, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vip.lineage.forget.next_dataset", dies)
        forget(root, "5.png")
    record = forget(root, "7.png")
    dataset = root.store.require(root.refs.get("dataset/photos"))
    assert record["datasets"][0]["after"] == dataset.digest
    shards = [root.store.require(ref) for ref in dataset.inputs.values()]
    left = [one.image_sha256 for shard in shards for one in read_samples(root.store.place(shard, "samples.tar"))]
    assert len(left) == 9 and {sha(draw(5)), sha(draw(7))}.isdisjoint(left)
    assert dataset.key == shard_source(root.store, str(source), SETTINGS, workers=1).key


def test_a_tombstone_that_cannot_be_read_is_named(root, tmp_path):
    take_down(root.store, root.shards["photos"][0].ref, "asked")
    (stone,) = (tmp_path / "root" / "tombstones" / "shard").iterdir()
    stone.write_text("{")
    with pytest.raises(VipError, match=f"tombstones/shard/{stone.name} cannot be read"):
        forget(root, "0" * 64)


@pytest.mark.parametrize("digits", [40, 63])
def test_a_hash_with_a_wrong_digit_takes_nothing_down(digits, root):
    whole = sha(draw(3))
    mistyped = whole[: digits - 1] + ("0" if whole[digits - 1] != "0" else "1")
    with pytest.raises(VipError, match="no image has an id that begins with"):
        forget(root, mistyped)
    assert suppressed(root.store) == frozenset()
    assert forget(root, whole[:digits])["images"][0]["sha256"] == whole
