"""Split lists: the field's splits from a local folder."""

import pytest
from PIL import Image

from schemas.errors import VipError
from schemas.sharding import RejectReason, ShardSettings
from vip.sharding.scan import scan_source


@pytest.fixture
def gallery(tmp_path):
    for number, name in enumerate(("Cubism/a, b.jpg", "Cubism/c.jpg", "Realism/d.jpg", "Realism/e.jpg")):
        path = tmp_path / "wikiart" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number * 40, 0, 0)).save(path)
    (tmp_path / "train.csv").write_text('"Cubism/a, b.jpg",3\nCubism/c.jpg,3\n')
    (tmp_path / "test.txt").write_text("Realism/d.jpg\n\nRealism/gone.jpg\n")
    return tmp_path


def settings(folder, **lists):
    return ShardSettings(bits=1, **{name: str(folder / value) for name, value in lists.items()})


def test_lists_decide_the_split_and_what_comes_in(gallery):
    scan = scan_source(str(gallery / "wikiart"), settings(gallery, train_list="train.csv", test_list="test.txt"))
    splits = {member.names[0]: member.split for member in scan.members}
    assert splits == {"Cubism/a, b.jpg": "train", "Cubism/c.jpg": "train", "Realism/d.jpg": "test"}
    assert scan.counts["unlisted"] == 1
    assert [(row.name, row.reason) for row in scan.rejects] == [("Realism/gone.jpg", RejectReason.MISSING)]


def test_a_list_may_begin_with_a_byte_order_mark(gallery):
    (gallery / "marked.csv").write_text("Cubism/c.jpg,3\nRealism/d.jpg,3\n", encoding="utf-8-sig")
    scan = scan_source(str(gallery / "wikiart"), settings(gallery, train_list="marked.csv"))
    assert {member.names[0] for member in scan.members} == {"Cubism/c.jpg", "Realism/d.jpg"}
    assert not scan.rejects


def test_a_name_on_both_lists_is_for_test(gallery):
    (gallery / "test.txt").write_text("Cubism/c.jpg\n")
    scan = scan_source(str(gallery / "wikiart"), settings(gallery, train_list="train.csv", test_list="test.txt"))
    assert {member.names[0]: member.split for member in scan.members}["Cubism/c.jpg"] == "test"


def test_without_lists_folders_speak(gallery):
    (gallery / "wikiart" / "Cubism").rename(gallery / "wikiart" / "test")
    scan = scan_source(str(gallery / "wikiart"), ShardSettings(bits=1, test_share=0.0))
    assert {member.names[0]: member.split for member in scan.members}["test/c.jpg"] == "test"
    assert "unlisted" not in scan.counts


def test_lists_that_cannot_be_used_say_so(gallery):
    with pytest.raises(VipError, match="cannot be read"):
        scan_source(str(gallery / "wikiart"), settings(gallery, train_list="none.csv"))
    (gallery / "empty.csv").write_text("\n")
    with pytest.raises(VipError, match="name no image"):
        scan_source(str(gallery / "wikiart"), settings(gallery, test_list="empty.csv"))
