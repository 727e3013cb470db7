"""A bucket that refuses, stumbles or is late: the store goes on, or ends with one line; nothing secret is in it."""

import time

import pytest
from s3_server import KEY, SECRET

from schemas.errors import VipError
from schemas.manifest import ArtifactRef
from storage.backend import Backend
from storage.refs import Refs

pytestmark = pytest.mark.slow

CALLS = {
    "PUT": lambda backend: backend.put_if_absent("new", b"1"),
    "GET": lambda backend: backend.get("old") == b"1",
    "LIST": lambda backend: list(backend.list("")) != [],
}


@pytest.fixture
def backend(s3_root):
    backend = Backend(s3_root)
    assert backend.put_if_absent("old", b"1") and not backend.put_if_absent("old", b"2")
    return backend


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("kind", ["503", "409", "reset", "slow"])
def test_what_passes_is_tried_again(kind, verb, s3, backend):
    s3.fault(kind, [verb], 1)
    done = CALLS[verb](backend)
    # An answer that was lost after the write: it stands there, and only that it was ours is not known.
    assert done or (kind, verb) == ("reset", "PUT")
    if verb == "PUT":
        assert backend.get("new") == b"1"


@pytest.mark.parametrize("verb", CALLS)
def test_a_refusal_is_one_line_without_a_secret(verb, s3, backend):
    s3.fault("403", [verb], 1)
    with pytest.raises(VipError) as caught:
        CALLS[verb](backend)
    assert "access denied" in str(caught.value) and KEY not in str(caught.value) and SECRET not in str(caught.value)


def test_a_ref_is_set_once_although_the_answer_to_its_write_is_lost(s3, backend):
    target = ArtifactRef(kind="shard", key="a" * 64, digest="b" * 64)
    s3.fault("reset", ["PUT"], 1)
    Refs(backend).set("name", target)
    assert [entry.target for entry in Refs(backend).log("name")] == [target]


def test_no_such_bucket_and_credentials_in_a_url_are_one_line(s3):
    with pytest.raises(VipError, match="there is no such bucket"):
        Backend("s3://not-made-by-anyone/x").put_if_absent("a", b"1")
    for url in (f"s3://{KEY}:{SECRET}@bucket/x", f"https://host/x?X-Amz-Signature={SECRET}"):
        with pytest.raises(VipError, match="carries credentials") as caught:
            Backend(url)
        assert SECRET not in str(caught.value) and KEY not in str(caught.value)


def test_large_files_go_in_parts_and_only_once(s3, backend, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (110 << 12))
    before = s3.counts()
    assert backend.put_if_absent("large", large) and not backend.put_if_absent("large", large)
    assert (s3.counts() - before)["POST"] >= 3  # begun twice, ended once, refused once
    with backend.open("large") as stream:
        stream.seek(100 << 20)
        assert stream.read(4) == bytes(range(4))


def test_a_listing_by_prefix_is_one_request_and_says_what_it_says_on_a_disk(s3, backend, tmp_path):
    local = Backend(str(tmp_path / "local"))
    for path in ("a/0/x", "a/01/x", "a/01.json", "a/011/y", "a/1/x", "b/01/x"):
        backend.put_if_absent(path, b"1")
        local.put_if_absent(path, b"1")
    for start in ("a/01", "a/01/", "a/0", "a/", "a/2", "a/2/", "c/"):
        before = s3.counts()
        found = list(backend.list_starting(start))
        assert found == list(local.list_starting(start)) == [path for path in local.list("") if path.startswith(start)]
        assert sum((s3.counts() - before).values()) == 1


def test_a_dated_listing_says_when_each_object_was_written(s3, backend):
    before = s3.counts()
    ((path, written),) = backend.list_dated("old")
    assert path == "old" and abs(written - time.time()) < 60
    assert written == backend.modified("old") and (s3.counts() - before)["LIST"] <= 2
