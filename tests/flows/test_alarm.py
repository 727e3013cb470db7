"""A failed run says why, and a webhook is told."""

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from flows.alarm import describe, post


@pytest.fixture
def webhook():
    heard = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_state_reason_and_the_end_of_every_log_are_told(tmp_path, webhook):
    url, heard = webhook
    run = SimpleNamespace(id=uuid.uuid4(), name="calm-owl", parameters={"root": str(tmp_path)})
    folder = tmp_path / "scratch" / "logs" / str(run.id)
    folder.mkdir(parents=True)
    (folder / "train.log").write_text("".join(f"line {number}\n" for number in range(20)))
    told = describe("retrain", run, SimpleNamespace(name="Failed", message="the loss is nan"))
    assert told["logs"] == {"train.log": "line 15\nline 16\nline 17\nline 18\nline 19"}
    assert post(url, told)
    assert heard == [told] and heard[0]["reason"] == "the loss is nan"


@pytest.mark.parametrize("where", ["/broken", None])
def test_a_webhook_that_fails_stops_nothing_and_is_not_named(webhook, where, caplog):
    url = webhook[0] + where if where else "http://127.0.0.1:9/secret-token"
    assert not post(url, {"state": "Failed"})
    assert "VIP_WEBHOOK" in caplog.text and "secret-token" not in caplog.text
