"""The suppression list only grows, keeps its reasons, and is refused where it cannot be read."""

import pytest

import storage.suppression
from schemas.errors import VipError
from storage.refs import Refs
from storage.store import ArtifactStore
from storage.suppression import REF, reasons, suppress, suppressed

ONE, TWO = "1" * 64, "2" * 64


def test_a_root_without_a_list_suppresses_nothing(tmp_path):
    assert suppressed(ArtifactStore(tmp_path)) == frozenset()


def test_images_are_added_and_the_first_reason_stays(tmp_path):
    store = ArtifactStore(tmp_path)
    suppress(store, [ONE], "asked by its author")
    made = suppress(store, [ONE.upper(), TWO], "another")
    assert reasons(store) == {ONE: "asked by its author", TWO: "another"}
    assert suppress(store, [TWO], "again") == made
    assert len(Refs(store.backend).log(REF)) == 2


def test_what_is_no_digest_is_refused(tmp_path):
    with pytest.raises(VipError, match="no SHA-256"):
        suppress(ArtifactStore(tmp_path), ["cat.jpg"], "why")


def test_a_list_that_is_gone_stops_a_build_instead_of_letting_images_in(tmp_path):
    store = ArtifactStore(tmp_path)
    made = suppress(store, [ONE], "why")
    (tmp_path / store.path(made, "suppressed.parquet")).unlink()
    with pytest.raises((VipError, FileNotFoundError)):
        suppressed(store)


def test_of_two_writers_at_once_neither_takes_the_images_of_the_other_off_the_list(tmp_path, monkeypatch):
    store = ArtifactStore(tmp_path)
    publish = storage.suppression._publish

    def while_another_takes_down(store, listed):
        monkeypatch.undo()
        suppress(store, [ONE], "quicker")
        return publish(store, listed)

    monkeypatch.setattr("storage.suppression._publish", while_another_takes_down)
    made = suppress(store, [TWO], "slower")
    assert reasons(store) == {ONE: "quicker", TWO: "slower"}
    assert made.ref == Refs(store.backend).get(REF)
