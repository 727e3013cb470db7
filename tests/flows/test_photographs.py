"""The whole run on real photographs: JPEG and PNG, grey, with transparency, of any shape, and files that are none."""

import shutil
from pathlib import Path

import pytest
import skimage.data
import sklearn.datasets

from schemas.manifest import ArtifactRef
from storage.store import ArtifactStore
from tests.flows._command import demo

pytestmark = pytest.mark.long


def test_a_folder_of_real_photographs_goes_through_the_same_run(tmp_path, engine):
    folder = tmp_path / "photos"
    folder.mkdir()
    sources = [Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images"]
    for path in sorted(path for source in sources for path in source.iterdir()):
        if path.suffix in (".png", ".jpg", ".jpeg", ".txt", ".xml"):
            shutil.copy(path, folder)
    result = demo(tmp_path / "root", "--images", str(folder), "--endpoint", engine.endpoint)
    store = ArtifactStore(tmp_path / "root")
    stats = store.require(ArtifactRef.model_validate(result["dataset"])).stats
    assert stats["samples"] >= 20 and stats["reasons"]["not_an_image"] >= 1
    assert (store.local(store.require(ArtifactRef.model_validate(result["report"]))) / "report.html").is_file()
