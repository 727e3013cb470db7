import pytest

from bench._lineage_root import small_root
from vip.lineage.index import open_index


@pytest.fixture
def root(tmp_path):
    return small_root(tmp_path / "root")


@pytest.fixture
def index(root):
    opened = open_index(root.store.backend.url)
    yield opened
    opened.close()
