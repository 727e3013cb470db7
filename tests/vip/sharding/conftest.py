"""Images of many kinds, made on the spot, and the photographs that two packages carry."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.store import ArtifactStore


def encoded(seed=0, size=(24, 16), mode="RGB", form="PNG", **options):
    """A small noisy image, another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(noise).convert("RGBA" if "A" in mode else "RGB").convert(mode)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture(name="encoded", scope="session")
def _encoded():
    return encoded


@pytest.fixture(scope="session")
def photographs():
    """Name -> bytes of every photograph in scikit-learn and scikit-image: JPEG, PNG; grey, RGB, RGBA; not square."""
    found = {}
    for package, folder in (("sklearn", "datasets/images"), ("skimage", "data")):
        spec = importlib.util.find_spec(package)
        for file in (Path(spec.submodule_search_locations[0]) / folder).iterdir():
            if file.suffix in (".jpg", ".png"):
                found[file.name] = file.read_bytes()
    assert len(found) > 20
    return found


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "root")


@pytest.fixture
def fill(tmp_path):
    """Write a folder of files, name -> bytes, and give its path back."""

    def write(files, folder="source"):
        for name, data in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(tmp_path / folder)

    return write
