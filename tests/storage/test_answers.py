"""Answers: immutable segments, one order for all readers, journals that outlive their process."""

import json
import multiprocessing
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.canonical import sha256_hex
from schemas.errors import VipError
from storage.answers import Answers, key_bits
from storage.backend import Backend
from storage.journal import Journal, journalling, recover

PARTITION = "a" * 32


def answer(number, text="hello", request=None):
    return {
        "request_id": request or sha256_hex(f"request {number}".encode()),
        "image_sha256": sha256_hex(str(number).encode()),
        "view": "8x8-centre",
        "region": "centre-0.5",
        "part": "joint",
        "draw": 0,
        "text": text,
        "finish_reason": "stop",
        "error": None,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "attempts": 1,
        "seconds": 0.25,
        "answered_at": datetime(2026, 1, 2, tzinfo=UTC),
        "model_id": "m",
        "endpoint": "e",
        "server": "s",
    }


def wait_for(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


@pytest.fixture(params=["local", "memory"])
def backend(request, tmp_path):
    return Backend(str(tmp_path / "root") if request.param == "local" else f"memory://answers-{tmp_path.name}")


@pytest.fixture
def answers(backend):
    return Answers(backend, PARTITION)


def test_the_first_published_answer_wins(answers, tmp_path):
    answers.publish("", [answer(1, "first")], tmp_path)
    answers.publish("", [answer(1, "second"), answer(2, "other")], tmp_path)
    found = answers.look_up("")
    assert found[answer(1)["request_id"]]["text"] == "first"
    assert found[answer(2)["request_id"]]["text"] == "other"


def test_segments_of_other_bits_are_found_and_keep_their_order(answers, tmp_path):
    row = answer(1)
    bits = key_bits(row["image_sha256"], 6)
    answers.publish(bits[:2], [{**row, "text": "short prefix"}], tmp_path)
    answers.publish(bits, [{**row, "text": "long prefix"}], tmp_path)
    answers.publish("", [{**row, "text": "none"}], tmp_path)
    for prefix in ("", bits[:1], bits[:2], bits[:4], bits, bits + key_bits(row["image_sha256"], 8)[6:]):
        assert answers.look_up(prefix)[row["request_id"]]["text"] == "short prefix"
    other = "".join("1" if bit == "0" else "0" for bit in bits)
    assert answers.look_up(other) == {}


def test_a_look_lists_only_prefixes_that_can_hold_the_shard(answers, backend, tmp_path, monkeypatch):
    listed, starting = [], Backend.list_starting

    def seen(self, start):
        for path in starting(self, start):
            listed.append(path)
            yield path

    monkeypatch.setattr(Backend, "list_starting", seen)
    rows = {key_bits(row["image_sha256"], 6): row for row in map(answer, range(200))}
    for prefix in ("", "0", "1", "010", "011", "010110", "010111", "011000"):
        mine = [row for bits, row in rows.items() if bits.startswith(prefix)]
        answers.publish(prefix, mine[:1], tmp_path)
    listed.clear()
    assert [segment.bits for segment in answers.segments("0101")] == ["", "0", "010", "010110", "010111"]
    assert {path.split("/")[2] for path in listed} == {"all", "0", "010", "010110", "010111"}
    assert {segment.bits for segment in answers.segments_of(rows["011000"]["image_sha256"])} == {
        "",
        "0",
        "011",
        "011000",
    }
    assert len(answers.segments("")) == 8 and answers.segments("10")[-1].bits == "1"


def test_a_shard_sees_only_answers_of_its_own_images(answers, tmp_path):
    rows = [answer(number) for number in range(64)]
    answers.publish("", rows, tmp_path)
    for prefix in ("0", "1", "011"):
        mine = {row["request_id"] for row in rows if key_bits(row["image_sha256"], len(prefix)) == prefix}
        assert set(answers.look_up(prefix)) == mine


def test_the_same_rows_published_twice_are_one_file(answers, backend, tmp_path):
    first = answers.publish("", [answer(1)], tmp_path)
    second = answers.publish("", [answer(1)], tmp_path)
    assert first.path == second.path and second.number == first.number + 1
    assert len([path for path in backend.list("answers") if path.endswith(".parquet")]) == 1


def test_a_file_without_its_record_does_not_count(answers, backend, tmp_path):
    segment = answers.publish("", [answer(1)], tmp_path)
    backend.remove(f"answers/{PARTITION}/all/{segment.number:08d}.json")
    assert answers.look_up("") == {}


def test_a_changed_byte_is_named(tmp_path):
    backend = Backend(str(tmp_path / "root"))
    answers = Answers(backend, PARTITION)
    answers.describe({"name": "x"})
    segment = answers.publish("", [answer(1)], tmp_path)
    assert answers.read(segment).num_rows == 1
    path = backend.local_path(segment.path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(VipError, match=r"not what was published"):
        answers.look_up("")


def test_a_journal_is_published_when_it_closes(answers, tmp_path):
    with journalling(answers, 1, tmp_path / "scratch") as journal:
        for number in range(20):
            journal.append(answer(number))
    assert len(answers.look_up("")) == 20
    assert not list((tmp_path / "scratch").iterdir())
    assert {segment.bits for segment in answers.segments("")} == {"0", "1"}


def test_a_journal_publishes_by_itself(answers, tmp_path):
    journal = Journal(answers, 0, tmp_path / "scratch", publish_every=0.05, sync_every=0.05)
    journal.append(answer(1))
    wait_for(lambda: answers.look_up(""))
    journal.close()


def _die(root: str, scratch: str, numbers: list[int], torn: bool) -> None:
    import os

    journal = Journal(Answers(Backend(root), PARTITION), 1, Path(scratch), publish_every=60)
    for number in numbers:
        journal.append(answer(number))
    journal._write()
    if torn:
        journal._open.file.write(b'{"request_id": "half a li')
    os._exit(9)


def test_what_a_killed_process_journalled_is_recovered_once(tmp_path):
    root, scratch = str(tmp_path / "root"), tmp_path / "scratch"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_die, args=(root, str(scratch), list(range(10)), True))
    process.start()
    process.join()
    answers = Answers(Backend(root), PARTITION)
    assert answers.look_up("") == {}
    copy = next(scratch.glob("*.journal")).read_bytes()
    assert recover(Backend(root), scratch) == 10
    found = answers.look_up("", ("text", "answered_at"))
    assert len(found) == 10 and next(iter(found.values()))["answered_at"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert recover(Backend(root), scratch) == 0
    # Killed between publishing and removing its journal: nothing is doubled.
    (scratch / "again.journal").write_bytes(copy)
    assert recover(Backend(root), scratch) == 0
    assert sum(segment.rows for segment in answers.segments("")) == 10


def test_answers_are_kept_while_the_store_stumbles(answers, backend, tmp_path, monkeypatch):
    stumbles, held = threading.Event(), threading.Event()

    def stumble(*_):
        stumbles.set()
        held.wait(10)
        raise VipError("the store does not answer as it should")

    scratch = tmp_path / "scratch"

    def lines():
        return sum(len(path.read_bytes().splitlines()) - 1 for path in scratch.glob("*.journal"))

    monkeypatch.setattr(answers, "publish", stumble)
    journal = Journal(answers, 1, scratch, publish_every=0.05)
    journal.append(answer(0))
    assert stumbles.wait(10)
    for number in range(1, 20):
        journal.append(answer(number))
    wait_for(lambda: lines() == 20)  # although publishing waits on the store
    held.set()
    with pytest.raises(VipError, match=r"does not answer as it should"):
        journal.close()
    assert recover(backend, scratch) == 20


def test_a_journal_writes_everything_before_it_tells_of_a_failure(answers, backend, tmp_path, monkeypatch):
    monkeypatch.setattr(Journal, "_keep_writing", lambda self: None)
    journal = Journal(answers, 1, tmp_path / "scratch", publish_every=60)
    journal.append(answer(1))
    journal._failure = VipError("the store does not answer as it should")
    with pytest.raises(VipError, match=r"does not answer as it should"):
        journal.close()
    assert recover(backend, tmp_path / "scratch") == 1


HEADER = json.dumps({"answers_id": PARTITION, "bits": 1}).encode() + b"\n"
GOOD = json.dumps(answer(1), default=lambda moment: moment.isoformat()).encode() + b"\n"


@pytest.mark.parametrize(
    ("journal", "kept"),
    {
        "nothing": (b"", 0),
        "header without its bits": (b'{"answers_id": "a"}\n' + GOOD, 0),
        "header that is a number": (b"7\n" + GOOD, 0),
        "header of a billion bits": (HEADER.replace(b": 1}", b": 1000000000}") + GOOD, 0),
        "header that climbs": (HEADER.replace(PARTITION.encode(), b"../../up") + GOOD, 0),
        "answer without its image": (HEADER + GOOD + b'{"answered_at": "2026-01-02"}\n' + GOOD, 1),
        "image that is no hash": (HEADER + GOOD.replace(b'"image_sha256": "', b'"image_sha256": "z'), 0),
        "text for a number": (HEADER + GOOD + GOOD.replace(b'"draw": 0', b'"draw": "no"'), 1),
        "nothing where something must be": (HEADER + GOOD + GOOD.replace(b'"draw": 0', b'"draw": null'), 1),
        "brackets without end": (HEADER + GOOD + b"[" * 100_000 + b"\n", 1),
    }.values(),
)
def test_a_damaged_journal_gives_its_whole_answers_and_goes(journal, kept, backend, tmp_path):
    (tmp_path / "left.journal").write_bytes(journal)
    assert recover(backend, tmp_path) == kept
    assert not list(tmp_path.glob("*.journal"))
    assert len(Answers(backend, PARTITION).look_up("")) == kept


def test_a_living_journal_is_left_alone(answers, backend, tmp_path):
    with journalling(answers, 0, tmp_path / "scratch", publish_every=60) as journal:
        journal.append(answer(1))
        wait_for(lambda: list((tmp_path / "scratch").glob("*.journal")))
        assert recover(backend, tmp_path / "scratch") == 0
        assert len(list((tmp_path / "scratch").glob("*.journal"))) == 1
    assert len(answers.look_up("")) == 1


def test_a_journal_of_another_partition_waits(answers, backend, tmp_path):
    header = json.dumps({"answers_id": "b" * 32, "bits": 0})
    row = json.dumps({**answer(1), "answered_at": "2026-01-02T00:00:00+00:00"})
    (tmp_path / "x.journal").write_text(f"{header}\n{row}\n")
    assert recover(backend, tmp_path, PARTITION) == 0
    assert recover(backend, tmp_path) == 1
    assert len(Answers(backend, "b" * 32).look_up("")) == 1


def _publish_many(root: str, scratch: str, name: int) -> None:
    answers = Answers(Backend(root), PARTITION)
    for number in range(15):
        answers.publish("", [answer(number, f"by {name}")], Path(scratch))


def test_two_processes_at_once_leave_one_order(tmp_path):
    root = str(tmp_path / "root")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_publish_many, args=(root, str(tmp_path / "s"), name)) for name in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    answers = Answers(Backend(root), PARTITION)
    segments = answers.segments("")
    assert [segment.number for segment in segments] == list(range(1, 31))
    first = {request: found["text"] for request, found in answers.look_up("").items()}
    answers.publish("", [answer(number, "late") for number in range(15)], tmp_path)
    assert {request: found["text"] for request, found in answers.look_up("").items()} == first
