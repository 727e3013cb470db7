"""Walking tars and Parquet files, whole, damaged and hostile."""

import io
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from s3fs import S3FileSystem

from schemas.errors import VipError
from schemas.sharding import RejectReason, ShardSettings
from storage.backend import Backend
from storage.items import Hidden, Item, Unread
from storage.sources import walk_source

SETTINGS = ShardSettings()


def add(tar, name, data=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def make(path, members, **options):
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            add(tar, name, data)
    return path


def walked(source, settings=SETTINGS):
    found = list(walk_source(str(source), settings))
    items = [(one.name, one.read()) for one in found if isinstance(one, Item)]
    return items, [(one.name, one.reason) for one in found if isinstance(one, Unread)], found


NINE = [(f"{n}.jpg", bytes([n]) * (500 + n)) for n in range(9)]


def test_members_are_read_where_they_lie(tmp_path):
    make(tmp_path / "a.tar", NINE)
    items, unread, _ = walked(tmp_path)
    assert items == [(f"a.tar/{name}", data) for name, data in NINE]
    assert unread == []


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(tmp_path, form):
    names = ["d" * 60 + "/" + "e" * 80 + ".jpg"] + ([] if form == tarfile.USTAR_FORMAT else ["x" * 250, "ü😀\n.png"])
    make(tmp_path / "a.tar", [(name, b"1") for name in names], format=form)
    assert [name for name, _ in walked(tmp_path)[0]] == [f"a.tar/{name}" for name in names]


def test_hostile_members_are_only_names(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "../../escape.jpg", b"1")
        add(tar, "/absolute.jpg", b"2")
        add(tar, "same.jpg", b"3")
        add(tar, "same.jpg", b"4")
        add(tar, "link.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "hard.jpg", type=tarfile.LNKTYPE, linkname="same.jpg")
        add(tar, "device", type=tarfile.CHRTYPE)
        add(tar, "folder", type=tarfile.DIRTYPE)
        add(tar, "._apple.jpg", b"5")
    before = sorted(tmp_path.iterdir())
    items, unread, found = walked(tmp_path)
    assert items == [
        ("a.tar/../../escape.jpg", b"1"),
        ("a.tar//absolute.jpg", b"2"),
        ("a.tar/same.jpg", b"3"),
        ("a.tar/same.jpg", b"4"),
    ]
    assert unread == [(f"a.tar/{name}", RejectReason.TAR_LINK) for name in ("link.jpg", "hard.jpg", "device")]
    assert Hidden("a.tar/._apple.jpg") in found
    assert sorted(tmp_path.iterdir()) == before


def test_wherever_a_tar_is_cut_whole_members_come_through_and_the_tar_is_named(tmp_path):
    whole = make(tmp_path / "whole.tar", NINE).read_bytes()
    end = 1024 * 9  # a header and a block each
    target = tmp_path / "cut" / "a.tar"
    target.parent.mkdir()
    for cut in range(0, end + 1, 256):
        target.write_bytes(whole[:cut])
        items, unread, _ = walked(target)
        complete = sum(cut >= 1024 * n + 512 + len(data) for n, (_, data) in enumerate(NINE))
        assert items == [(f"a.tar/{name}", data) for name, data in NINE[:complete]], cut
        assert ("a.tar", RejectReason.DAMAGED_TAR) in unread, cut


@pytest.mark.parametrize("damage", [b"\xff" * 512, b"no header here".ljust(512, b"!"), os.urandom(512)])
def test_a_broken_header_costs_its_member_only(tmp_path, damage):
    data = bytearray(make(tmp_path / "a.tar", NINE).read_bytes())
    data[1024 * 4 : 1024 * 4 + 512] = damage
    (tmp_path / "a.tar").write_bytes(data)
    items, unread, _ = walked(tmp_path / "a.tar")
    assert [name for name, _ in items] == [f"a.tar/{n}.jpg" for n in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert unread == [("a.tar", RejectReason.DAMAGED_TAR)]


def test_a_size_that_lies_does_not_hide_what_follows(tmp_path):
    data = bytearray(make(tmp_path / "a.tar", NINE).read_bytes())
    header = tarfile.TarInfo.frombuf(bytes(data[4096:4608]), "utf-8", "strict")
    header.size = 10**9
    data[4096:4608] = header.tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "a.tar").write_bytes(data)
    items, unread, _ = walked(tmp_path / "a.tar")
    assert [name for name, _ in items] == [f"a.tar/{n}.jpg" for n in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert ("a.tar/4.jpg", RejectReason.DAMAGED_TAR) in unread


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 10_239), st.integers(0, 255)), max_size=30),
    cut=st.integers(0, 10_240),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_whatever_happens_to_a_tar_the_walk_ends_and_untouched_members_come_through(tmp_path, changes, cut, form):
    data = bytearray(make(tmp_path / "a.tar", NINE, format=form).read_bytes())[: 10_240 - cut]
    touched = set()
    for place, value in changes:
        if place < len(data) and data[place] != value:
            data[place] = value
            touched.add(place // 1024)
    (tmp_path / "a.tar").write_bytes(data)
    items, _, _ = walked(tmp_path / "a.tar")
    whole = {n for n in range(9) if len(data) >= 1024 * n + 512 + 500 + n} - touched
    found = {name for name, _ in items}
    # A header that was changed but still adds up may lie about its size and swallow what follows it.
    swallowed = {n for n in whole if f"a.tar/{n}.jpg" not in found}
    assert not swallowed or min(swallowed) - 1 in touched
    for name, read in items:
        number = name.removeprefix("a.tar/").removesuffix(".jpg")
        if number.isdigit() and int(number) in whole:
            assert read == NINE[int(number)][1]


def test_tars_glued_together_are_read_to_the_end(tmp_path):
    one = make(tmp_path / "1.tar", NINE[:4]).read_bytes()
    two = make(tmp_path / "2.tar", NINE[4:]).read_bytes()
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.tar").write_bytes(one + two)
    items, unread, _ = walked(tmp_path / "both")
    assert [data for _, data in items] == [data for _, data in NINE]
    assert unread == []


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" * 500, bytes(100), b"ustar" * 400])
def test_what_is_no_tar_is_named_and_the_rest_goes_on(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    make(tmp_path / "b.tar", NINE)
    items, unread, _ = walked(tmp_path)
    assert len(items) == 9
    assert unread[0] == ("a.tar", RejectReason.DAMAGED_TAR)


def test_a_tar_behind_a_url(tmp_path):
    import fsspec

    with fsspec.open("memory://distant/train/a.tar", "wb") as file:
        file.write(make(tmp_path / "a.tar", NINE).read_bytes())
    items, unread, found = walked("memory://distant")
    assert items == [(f"train/a.tar/{name}", data) for name, data in NINE]
    assert unread == [] and {one.split for one in found} == {"train"}
    assert [one.place.read() for one in found] == [data for _, data in NINE]


def test_a_bucket_without_credentials_is_said_in_one_line(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    S3FileSystem.clear_instance_cache()  # another test's may hold credentials, and this one's holds none
    with pytest.raises(VipError, match=r"source cannot be listed: s3://bucket/images: .*credentials"):
        walked("s3://bucket/images")
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("url", ["s3://[bucket/images", "s3://key:secret@[bucket"])
def test_a_url_that_is_none_is_one_line_that_does_not_repeat_it(url):
    for take in (walked, Backend):
        with pytest.raises(VipError, match="a URL is none") as caught:
            take(url)
        assert "bucket" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_bucket_is_listed_once_and_each_file_is_one_request(s3, s3_root):
    S3FileSystem.clear_instance_cache()
    bucket = Backend(s3_root)
    for number in range(30):
        bucket.put_if_absent(f"images/train/{number:02d}.jpg", bytes([number]) * 9)
    for source, fixed in ((f"{s3_root}/images", "train/"), (f"{s3_root}/ima*/*/*.jpg", "images/train/")):
        before = s3.counts()
        found = list(walk_source(source, SETTINGS))
        assert [(one.name, one.size) for one in found] == [(f"{fixed}{n:02d}.jpg", 9) for n in range(30)]
        listing = s3.counts() - before
        assert listing["HEAD"] + listing["LIST"] <= 6  # a pattern lists folder by folder
        assert [one.read() for one in found] == [bytes([n]) * 9 for n in range(30)]
        assert s3.counts() - before - listing == {"GET": 30}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.jpg", "a.tar", "a.parquet"])
def test_a_store_that_goes_away_while_a_file_is_read_is_one_line(s3, s3_root, tmp_path, name, monkeypatch):
    make(tmp_path / "a.tar", NINE)
    pq.write_table(pa.table({"image": BLOBS}), tmp_path / "a.parquet")
    (tmp_path / "a.jpg").write_bytes(b"1")
    Backend(s3_root).put_if_absent(f"images/{name}", tmp_path / name)

    async def gone(self, method, *args, **more):
        if method == "get_object":
            raise EndpointConnectionError(endpoint_url=s3.endpoint)
        return await call(self, method, *args, **more)

    call = S3FileSystem._call_s3
    monkeypatch.setattr(S3FileSystem, "_call_s3", gone)
    with pytest.raises(VipError, match=r"images.* the store does not answer as it should"):
        walked(f"{s3_root}/images")


@pytest.mark.parametrize("pattern", ["*/train", "**/train", "**/tr*", "**/*", "**"])
def test_a_pattern_takes_the_folders_that_it_matches_and_each_file_once(tmp_path, pattern):
    for path in ("a/train/1.jpg", "a/train/train/2.jpg", "b/train/3.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"1")
    items, _, _ = walked(tmp_path / pattern)
    assert sorted(name for name, _ in items) == ["a/train/1.jpg", "a/train/train/2.jpg", "b/train/3.jpg"]


BLOBS = [bytes([n]) * 10 for n in range(20)]


@pytest.mark.parametrize(
    ("columns", "wanted", "first"),
    [
        ({"image": [{"bytes": blob, "path": f"{n}.jpg"} for n, blob in enumerate(BLOBS)]}, None, "0.jpg"),
        ({"jpg": BLOBS, "text": ["t"] * 20}, None, "row-000000000"),
        ({"thumbnail": BLOBS, "image": BLOBS}, None, "row-000000000"),
        ({"one": BLOBS, "two": BLOBS}, "two", "row-000000000"),
        ({"whatever": pa.array(BLOBS, pa.large_binary())}, None, "row-000000000"),
        ({"image.bytes": BLOBS, "image.path": ["a"] * 20}, None, "row-000000000"),
        ({"image": [{"bytes": blob, "path": "a.jpg"} for blob in BLOBS], "image.path": ["b"] * 20}, None, "a.jpg"),
    ],
)
def test_the_column_of_bytes_is_found_or_given(tmp_path, columns, wanted, first):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=6)
    items, unread, found = walked(tmp_path / "a.parquet", ShardSettings(image_column=wanted))
    assert [data for _, data in items] == BLOBS and unread == []
    assert items[0][0] == f"a.parquet/{first}"
    assert [one.place.read() for one in found] == BLOBS


@pytest.mark.parametrize("column", ["id", "the.id"])
def test_names_may_come_from_a_column(tmp_path, column):
    pq.write_table(pa.table({"image": BLOBS, column: list(range(20))}), tmp_path / "a.parquet")
    assert walked(tmp_path / "a.parquet", ShardSettings(name_column=column))[0][3][0] == "a.parquet/3"


def test_a_row_may_be_called_nought(tmp_path):
    table = pa.table({"image": [b"a", b"b", b"c"], "id": pa.array([0, 1, None])})
    pq.write_table(table, tmp_path / "t.parquet")
    settings = SETTINGS.model_copy(update={"name_column": "id"})
    names = [item.name for item in walk_source(str(tmp_path / "t.parquet"), settings)]
    assert names == ["t.parquet/0", "t.parquet/1", "t.parquet/row-000000002"]


def test_names_that_are_no_text_are_written_out(tmp_path):
    lying = pa.array([b"\xff\xfe", b"b"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": BLOBS[:2], "id": lying}), tmp_path / "a.parquet", row_group_size=1)
    items, unread, _ = walked(tmp_path / "a.parquet", ShardSettings(name_column="id"))
    assert [name for name, _ in items] == [r"a.parquet/\xff\xfe", "a.parquet/b"] and unread == []


@pytest.mark.parametrize("options", [{}, {"image_column": "image"}, {"image_column": "jpg", "name_column": "image"}])
def test_a_column_that_stands_twice_is_not_chosen(tmp_path, options):
    columns, names = [pa.array(BLOBS)] * 2, ["image"] * 2
    if "name_column" in options:
        columns, names = [*columns, pa.array(BLOBS)], [*names, "jpg"]
    pq.write_table(pa.Table.from_arrays(columns, names), tmp_path / "a.parquet")
    with pytest.raises(VipError, match=r"several columns are called image"):
        walked(tmp_path / "a.parquet", ShardSettings(**options))


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"text": ["a"]}, {}, "no column of image bytes; there are text"),
        ({"one": [b"1"], "two": [b"2"]}, {}, "several columns could hold images: one, two; set image_column"),
        ({"image": [b"1"]}, {"image_column": "jpg"}, "no column of bytes is called jpg"),
        ({"image": [b"1"]}, {"name_column": "id"}, "no column is called id"),
    ],
)
def test_a_wrong_schema_is_one_line_and_beside_others_a_reject(tmp_path, columns, options, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(VipError, match=message):
        walked(tmp_path / "a.parquet", ShardSettings(**options))
    assert walked(tmp_path, ShardSettings(**options))[1] == [("a.parquet", RejectReason.WRONG_SCHEMA)]


def test_a_damaged_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": BLOBS}), path, row_group_size=5, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 30] = b"\xff" * 30
    path.write_bytes(data)
    items, unread, _ = walked(path)
    assert [data for _, data in items] == BLOBS[:5] + BLOBS[10:]
    assert unread == [("a.parquet", RejectReason.DAMAGED_PARQUET)]
    assert items[-1][0] == "a.parquet/row-000000019"
    path.write_bytes(data[:-10])
    with pytest.raises(VipError, match=r"a\.parquet: .*; give a whole"):
        walked(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6))
@example(changes=[(0.4296875, 128)])  # the name of a column is no UTF-8
def test_whatever_happens_to_a_parquet_file_there_is_an_answer(tmp_path, changes):
    pq.write_table(pa.table({"image": BLOBS}), tmp_path / "a.parquet", row_group_size=5)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    (tmp_path / "a.parquet").write_bytes(data)
    for one in walk_source(str(tmp_path), SETTINGS):
        assert isinstance(one, Item | Unread)
