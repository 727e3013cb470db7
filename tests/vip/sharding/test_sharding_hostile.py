"""Whatever lies in a source, the good image beside it comes through and the outcome is a clear one."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from schemas.region import View
from schemas.sharding import ShardSettings
from schemas.tables import NAMES, SOURCE_REJECTS
from storage.shards import read_samples
from storage.store import ArtifactStore
from storage.tables import read_table
from tests.hostile_page import compare_section
from vip.regions.view import render_view
from vip.sharding.build import shard_source

HERE = Path(__file__).parent
SETTINGS = ShardSettings(bits=1)

_spec = importlib.util.spec_from_file_location("hostile", HERE / "hostile.py")
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)

TITLE = "Images, tars and Parquet"
TEXT = """What comes of a file, member or row of a source. In every case a good image beside it becomes a sample and the
run ends normally."""


def outcome_of(name, folder):
    source = folder / "source"
    source.mkdir(parents=True)
    good = hostile.saved(hostile.noise(99), "PNG")
    (source / "good.png").write_bytes(good)
    hostile.KINDS[name][1](source)
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    store = ArtifactStore(folder / "root")
    dataset = shard_source(store, str(source), SETTINGS, workers=2)
    outside = [path.relative_to(folder) for path in folder.rglob("*") if folder / "root" not in [path, *path.parents]]
    assert sorted(outside) == before  # nothing was extracted, nothing was changed
    names = read_table(store.read(dataset, "names.parquet"), NAMES).to_pylist()
    rejects = read_table(store.read(dataset, "rejects.parquet"), SOURCE_REJECTS).to_pylist()
    assert "good.png" in {row["name"] for row in names}
    for ref in dataset.inputs.values():
        for sample in read_samples(str(store.local(store.require(ref)) / "samples.tar")):
            assert render_view(sample.data, View(width=8, height=8)).shape == (8, 8, 3)
    return said(dataset.stats, rejects)


def said(stats, rejects):
    def several(number, word):
        return f"{number} {word}" if number == 1 else f"{number} {word}s"

    words = [several(stats["samples"] - 1, "sample")] if stats["samples"] > 1 else []
    words += [several(stats["sidecars"], "sidecar")] if stats["sidecars"] else []
    words += [f"{stats['hidden']} hidden"] if stats["hidden"] else []
    reasons = sorted(Counter(row["reason"] for row in rejects).items())
    if reasons:
        words.append("rejected: " + ", ".join(f"{n} x {reason}" if n > 1 else reason for reason, n in reasons))
    return ", ".join(words) or "nothing"


@pytest.mark.parametrize("name", hostile.KINDS)
def test_the_outcome_is_clear_and_the_good_image_comes_through(name, tmp_path, capfd, recwarn):
    assert outcome_of(name, tmp_path) == hostile.KINDS[name][0]
    assert capfd.readouterr() == ("", "")
    assert [str(one.message) for one in recwarn if "PIL" in one.filename] == []


def test_the_page_in_the_docs_is_what_the_tests_show():
    compare_section(TITLE, TEXT, {name: outcome for name, (outcome, _) in hostile.KINDS.items()})
    assert len(hostile.KINDS) >= 80
