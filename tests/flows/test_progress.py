"""What Prefect's page is told of a stage, on a real Prefect server."""

import time

import pytest

from flows.progress import reporting
from flows.server import prefect_server

pytestmark = pytest.mark.slow


def test_the_page_says_how_far_a_stage_is_and_how_long_it_takes(tmp_path, monkeypatch):
    from prefect import flow
    from prefect.client.orchestration import get_client

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    seen = []

    def shown():
        with get_client(sync_client=True) as client:
            return {one.description for one in client.read_artifacts()}

    @flow
    def works():
        with reporting(console_too=False) as progress:
            progress("captioning", 0, 1000, "0 rejected")
            time.sleep(2.1)
            progress("captioning", 10, 1000, "1 rejected")
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and not any("10 of" in one for one in seen):
                seen.extend(shown())
                time.sleep(0.2)
            progress("captioning", 1000, 1000, "2 rejected")
        return shown()

    with prefect_server(tmp_path / "prefect", tmp_path / "log"):
        last = works()
    (during,) = {one for one in seen if "10 of" in one}
    assert during.startswith("captioning: 10 of 1,000, ") and during.endswith(" min left, 1 rejected")
    assert last == {"captioning: 1,000 of 1,000, 2 rejected"}
