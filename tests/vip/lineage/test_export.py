"""Exports are read back by the tools they are for."""

import hashlib
import io
import json

import datasets
import mlcroissant
import pytest
from openlineage.client.serde import Serde
from PIL import Image

from bench._lineage_root import Synthetic, add_captions, add_gate
from bench._lineage_rows import make_spec, sha
from flows.cli.main import main
from schemas.errors import VipError
from schemas.sharding import ShardSettings
from storage.removal import take_down
from storage.store import ArtifactStore
from tests.openlineage_models import rebuilt
from vip.lineage.export.openlineage import events
from vip.lineage.export.publish import export_captions, export_dataset
from vip.lineage.index import open_index
from vip.sharding.build import shard_source


def draw(number):
    data = io.BytesIO()
    Image.new("RGB", (20, 12), (number * 20, 40, 200)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def photos(tmp_path):
    """Real pictures through the real sharding, captioned."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(12):
        (source / f"{number}.png").write_bytes(draw(number))
    root = Synthetic(ArtifactStore(tmp_path / "root", run_id="3f2b1e8c-8f0e-4b7e-9d57-0f2f4c6b1a11"))
    settings = ShardSettings(name="photos", bits=1, test_share=0.3)
    root.datasets["photos"] = shard_source(root.store, str(source), settings, workers=1)
    root.shards["photos"] = [root.store.require(ref) for ref in root.datasets["photos"].inputs.values()]
    add_captions(root, "keywords", "photos", make_spec())
    add_gate(root, "keywords", passed=False)
    return root


@pytest.fixture
def photo_index(photos):
    opened = open_index(photos.store.backend.url)
    yield opened
    opened.close()


def test_openlineage_events_are_taken_by_the_official_models(photo_index):
    made = [json.loads(Serde.to_json(event)) for event in events(photo_index)]
    assert len(made) == 2 * 7
    for event in made:
        assert json.loads(Serde.to_json(rebuilt(event))) == event
    runs = {}
    for event in made:
        runs.setdefault(event["run"]["runId"], []).append(event["eventType"])
        assert event["run"]["facets"]["parent"]["run"]["runId"] == "3f2b1e8c-8f0e-4b7e-9d57-0f2f4c6b1a11"
    assert all(types == ["START", "COMPLETE"] for types in runs.values())


def test_openlineage_holds_versions_columns_code_and_assertions(photo_index, photos):
    made = [json.loads(Serde.to_json(event)) for event in events(photo_index)]
    done = [event for event in made if event["eventType"] == "COMPLETE"]
    captions = next(event for event in done if event["job"]["name"] == "caption_shard")
    output = captions["outputs"][0]
    assert output["facets"]["version"]["datasetVersion"] in {part.digest for part in photos.captions["keywords"]}
    sources = output["facets"]["columnLineage"]["fields"]["centre"]["inputFields"]
    assert {one["field"] for one in sources} == {"image", "templates"}
    assert any(one["name"] == "prompt/keywords" for one in captions["inputs"])
    commit = photos.datasets["photos"].producer.commit
    if commit:
        assert captions["job"]["facets"]["sourceCodeLocation"]["version"].startswith(commit)
    gate = next(event for event in done if event["job"]["name"] == "gate")
    asserted = gate["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(one["assertion"], one["success"]) for one in asserted] == [("rejected", False)]
    caption_set = next(event for event in done if event["job"]["name"] == "caption_set")
    assert gate["inputs"][0]["name"] == caption_set["outputs"][0]["name"] == "captions/keywords"


def test_a_published_dataset_is_valid_croissant_and_its_records_load(photo_index, photos, tmp_path):
    out = tmp_path / "out"
    counts = export_dataset(photo_index, "photos", out, licence="CC-BY-4.0")
    assert counts["samples"] == 12
    card = mlcroissant.Dataset(str(out / "croissant.json"))
    assert not card.metadata.issues.errors
    assert [warning for warning in card.metadata.issues.warnings if "citeAs" not in warning] == []
    records = [row for prefix in ("0", "1") for row in card.records(f"samples-{prefix}")]
    keys = {row[f"samples-{row_prefix(row)}/image_sha256"].decode() for row in records}
    assert keys == {sha(draw(number)) for number in range(12)}
    made = json.loads((out / "croissant.json").read_text())
    assert made["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    for file in made["distribution"]:
        assert hashlib.sha256((out / file["contentUrl"]).read_bytes()).hexdigest() == file["sha256"]
    carried = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - {"croissant.json"}
    assert {file["contentUrl"] for file in made["distribution"]} == carried
    derived = {one["@id"] for one in made["prov:wasDerivedFrom"]}
    assert derived == {f"urn:sha256:{shard.digest}" for shard in photos.shards["photos"]}


def row_prefix(row):
    return next(iter(row)).split("/")[0].removeprefix("samples-")


def test_captions_load_as_an_image_folder(photo_index, tmp_path):
    counts = export_captions(photo_index, "captions/keywords", tmp_path / "out")
    assert counts["images"] == counts["rows"] == 12
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    rows = [row for split in loaded.values() for row in split]
    assert {split: len(loaded[split]) for split in loaded} == counts["splits"]
    assert {row["image_sha256"] for row in rows} == {sha(draw(number)) for number in range(12)}
    for row in rows:
        assert row["image"].size == (20, 12)
        assert row["total"] == f"{row['centre']}; {row['surrounding']}"


def test_an_export_is_never_mixed_with_what_is_there(photo_index, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(VipError, match="is not empty"):
        export_dataset(photo_index, "photos", tmp_path)


def test_the_command_line_writes_them_all(photos, tmp_path, capsys):
    def vip(*words):
        main(["export", *words, "--root", photos.store.backend.url, "--json"])
        return json.loads(capsys.readouterr().out)

    card, folder, images = (tmp_path / name for name in ("card.json", "dataset", "images"))
    vip("croissant", "photos", "--out", str(card), "--license", "CC0-1.0")
    told = vip("dataset", "dataset/photos", "--out", str(folder))
    assert told["samples"] == 12 and told["folder"] == str(folder)
    for file in json.loads(card.read_text())["distribution"]:
        assert hashlib.sha256(photos.store.backend.get(file["contentUrl"])).hexdigest() == file["sha256"]
    for file in (card, folder / "croissant.json"):
        assert not mlcroissant.Dataset(str(file)).metadata.issues.errors
    assert vip("captions", "keywords", "--out", str(images))["rows"] == 12
    loaded = datasets.load_dataset("imagefolder", data_dir=str(images), cache_dir=str(tmp_path / "cache"))
    assert sum(split.num_rows for split in loaded.values()) == 12
    assert vip("openlineage", "--out", str(tmp_path / "events.ndjson"))["events"] == 2 * 7
    for words in (["captions", "keywords"], ["dataset", "photos"]):
        with pytest.raises(SystemExit):
            main(["export", *words, "--out", str(folder), "--root", photos.store.backend.url])
        assert "is not empty" in capsys.readouterr().err


def test_what_does_not_stand_is_not_exported(photos, tmp_path):
    take_down(photos.store, photos.datasets["photos"].ref, "taken down")
    index = open_index(photos.store.backend.url)
    with pytest.raises(VipError, match="does not stand: taken down"):
        export_dataset(index, "photos", tmp_path / "out")
    index.close()
