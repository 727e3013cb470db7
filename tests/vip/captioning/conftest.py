import pytest

from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import make_dataset, make_spec, make_tokenizer, write_images


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "root")


@pytest.fixture
def dataset(store, tmp_path):
    return make_dataset(store, write_images(tmp_path / "images", 24))


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def spec(tokenizer):
    return make_spec(tokenizer)


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture
def endpoint(server):
    with serving(server) as url:
        yield url


@pytest.fixture
def scratch(tmp_path):
    return tmp_path / "scratch"
