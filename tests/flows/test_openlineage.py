"""``vip export openlineage``: the file always, and the same events to a collector over HTTP."""

import json

import pytest
import yaml

from bench._lineage_root import small_root
from flows.cli.main import main
from tests.collector import collecting


@pytest.fixture
def collector():
    with collecting() as running:
        yield running


@pytest.fixture
def export(tmp_path, capsys):
    root = small_root(tmp_path / "root")

    def run(url, *words):
        # One try: the client's own default repeats a refused event with growing pauses.
        told = {"transport": {"type": "http", "url": url, "retry": {"total": 0}}}
        (tmp_path / "transport.yaml").write_text(yaml.safe_dump(told))
        transport = ("--transport", str(tmp_path / "transport.yaml"))
        code = 0
        try:
            main(["export", "openlineage", *words, *transport, "--root", root.store.backend.url])
        except SystemExit as leaving:
            code = leaving.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_collector_hears_what_stands_in_the_file(collector, export, tmp_path):
    url, heard = collector
    code, out, _ = export(url, "--out", str(tmp_path / "events.ndjson"), "--json")
    written = lines(tmp_path / "events.ndjson")
    assert (code, json.loads(out)["sent"]) == (0, len(written))
    for _, body in heard:
        body["run"]["facets"].pop("tags")  # the official client signs what it sends
    assert [body for _, body in heard] == written and len(written) == 2 * 10
    assert {path for path, _ in heard} == {"/api/v1/lineage"}


def test_a_broken_collector_fails_the_command_and_the_file_is_whole(collector, export, tmp_path):
    url, heard = collector
    code, _, err = export(f"{url}/broken/", "--out", str(tmp_path / "events.ndjson"))
    assert code == 1 and "took no event" in err and "all 20 events are in" in err
    assert len(heard) == 1 and len(lines(tmp_path / "events.ndjson")) == 20


def test_without_a_file_events_are_sent_all_the_same(collector, export):
    url, heard = collector
    code, out, _ = export(url)
    assert code == 0 and "20 sent" in out and len(heard) == 20
