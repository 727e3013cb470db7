"""Shard tars: plain, deterministic, streamed, and read one sample at a time."""

import io
import tarfile

import pytest

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from storage.shards import ShardWriter, read_samples

BLOBS = [bytes([n]) * size for n, size in enumerate((1, 511, 512, 513, 70_000))]


def packed(path, blobs=BLOBS):
    with ShardWriter(path) as shard:
        return [shard.write(sha256_hex(blob), "jpg", blob, {"width": len(blob)}) for blob in blobs]


def test_the_bytes_are_those_of_tarfile(tmp_path):
    packed(tmp_path / "a.tar")
    by_tarfile = io.BytesIO()
    with tarfile.open(fileobj=by_tarfile, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for blob in BLOBS:
            for ending, data in (("jpg", blob), ("json", b'{"width":%d}' % len(blob))):
                info = tarfile.TarInfo(f"{sha256_hex(blob)}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    assert (tmp_path / "a.tar").read_bytes() == by_tarfile.getvalue()


def test_samples_come_back_in_order_and_each_lies_where_it_was_said_to(tmp_path):
    places = packed(tmp_path / "a.tar")
    with (tmp_path / "a.tar").open("rb") as file:
        samples = list(read_samples(file))
    assert [(one.image_sha256, one.data, one.meta) for one in samples] == [
        (sha256_hex(blob), blob, {"width": len(blob)}) for blob in BLOBS
    ]
    whole = (tmp_path / "a.tar").read_bytes()
    assert [whole[offset : offset + len(blob)] for (_, offset), blob in zip(places, BLOBS, strict=True)] == BLOBS
    packed(tmp_path / "empty.tar", [])
    assert list(read_samples(str(tmp_path / "empty.tar"))) == []


def test_a_shard_behind_a_url_is_streamed(tmp_path):
    import fsspec

    packed(tmp_path / "a.tar")
    with fsspec.open("memory://shards/a.tar", "wb") as file:
        file.write((tmp_path / "a.tar").read_bytes())
    assert [one.data for one in read_samples("memory://shards/a.tar")] == BLOBS


def test_a_shard_that_was_cut_is_named(tmp_path):
    packed(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:5000])
    with pytest.raises(VipError, match=r"a\.tar cannot be read: unexpected end of data; run `vip audit verify`"):
        list(read_samples(str(tmp_path / "a.tar")))
    with pytest.raises(VipError, match="cannot be read"):
        list(read_samples(str(tmp_path / "missing.tar")))


def test_a_member_that_does_not_fit_is_refused(tmp_path):
    with ShardWriter(tmp_path / "a.tar") as shard, pytest.raises(VipError, match="does not fit"):
        shard.write("f" * 120, "jpg", b"", {})
