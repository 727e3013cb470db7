"""The local Prefect server of a run."""

import json
import urllib.request

import pytest

from flows.server import _take_home, prefect_server


def test_two_runs_never_share_a_home(tmp_path):
    first, second = _take_home(tmp_path / "prefect"), _take_home(tmp_path / "prefect")
    assert first.name != second.name
    first.close()
    again = _take_home(tmp_path / "prefect")
    assert again.name == first.name
    for lock in (second, again):
        lock.close()


def test_a_configured_server_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with prefect_server(tmp_path / "prefect", tmp_path / "log") as url:
        assert url == "http://127.0.0.1:9/api"
    assert not (tmp_path / "prefect").exists()


@pytest.mark.slow
def test_a_real_server_starts_answers_and_stops(tmp_path, monkeypatch):
    from prefect.settings import PREFECT_API_URL

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    before = PREFECT_API_URL.value()
    with prefect_server(tmp_path / "prefect", tmp_path / "log") as url:
        assert PREFECT_API_URL.value() == url != before  # though Prefect was imported before there was a server
        with urllib.request.urlopen(f"{url}/admin/settings", timeout=20) as answer:
            settings = json.load(answer)
        assert settings["server"]["analytics_enabled"] is False
    assert PREFECT_API_URL.value() == before
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=2)
    assert "Traceback" not in (tmp_path / "log").read_text()
