"""A failed run says why, and a webhook is told."""

import uuid
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from prefect import states

from flows.alarm import WEBHOOK, describe, post, raise_alarm
from tests.collector import collecting


@pytest.fixture
def webhook():
    with collecting() as collector:
        yield collector


def test_state_reason_and_the_end_of_every_log_are_told(tmp_path, webhook):
    url, heard = webhook
    run = SimpleNamespace(id=uuid.uuid4(), name="calm-owl", parameters={"root": str(tmp_path)})
    folder = tmp_path / "scratch" / "logs" / str(run.id)
    folder.mkdir(parents=True)
    (folder / "train.log").write_text("".join(f"line {number}\n" for number in range(20)))
    told = describe("retrain", run, SimpleNamespace(name="Failed", message="the loss is nan"))
    assert told["logs"] == {"train.log": "line 15\nline 16\nline 17\nline 18\nline 19"}
    assert post(url, told)
    assert heard == [("/", told)] and told["reason"] == "the loss is nan"


@pytest.mark.parametrize("where", ["/broken", None])
def test_a_webhook_that_fails_stops_nothing_and_is_not_named(webhook, where, caplog):
    url = webhook[0] + where if where else "http://127.0.0.1:9/secret-token"
    assert not post(url, {"state": "Failed"})
    assert "VIP_WEBHOOK" in caplog.text and "secret-token" not in caplog.text


def test_the_webhook_is_told_where_prefect_does_not_answer(tmp_path, webhook, monkeypatch):
    def unreachable(**_):
        raise ConnectionError("no server")

    url, heard = webhook
    monkeypatch.setenv(WEBHOOK, url)
    monkeypatch.setattr("flows.alarm.get_client", unreachable)
    run = SimpleNamespace(id=uuid.uuid4(), name="calm-owl", parameters={"root": str(tmp_path)})
    with pytest.raises(ConnectionError):
        raise_alarm(SimpleNamespace(name="retrain"), run, SimpleNamespace(name="Failed", message="no server"))
    assert [told["reason"] for _, told in heard] == ["no server"]


@pytest.mark.parametrize(("last", "alarms"), [("Cancelling", 0), ("Running", 1)])
def test_a_run_that_somebody_cancelled_raises_no_alarm(tmp_path, webhook, monkeypatch, last, alarms):
    url, heard = webhook
    monkeypatch.setenv(WEBHOOK, url)
    client = MagicMock()
    client.__enter__.return_value = client
    client.read_flow_run_states.return_value = [getattr(states, name)() for name in ("Pending", "Running", last)]
    monkeypatch.setattr("flows.alarm.get_client", lambda **_: client)
    run = SimpleNamespace(id=uuid.uuid4(), name="calm-owl", parameters={"root": str(tmp_path)})
    raise_alarm(SimpleNamespace(name="retrain"), run, states.Crashed(message="ended by a signal"))
    assert len(heard) == client.create_artifact.call_count == alarms
