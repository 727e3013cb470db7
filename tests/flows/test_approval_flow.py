"""A person who is asked on a real Prefect server, and does not come."""

import pytest

from flows.approval import ask_person
from flows.server import prefect_server
from schemas.approval import ApprovalRules

pytestmark = pytest.mark.slow


def test_without_an_answer_the_run_fails_and_says_for_what_nobody_came(tmp_path, monkeypatch):
    from prefect import flow

    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    @flow
    def asks():
        return ask_person("scenes", ["kid (oracle) not worse"], ApprovalRules(hours=0.003))

    with prefect_server(tmp_path / "prefect", tmp_path / "log"):
        state = asks(return_state=True)
    assert state.name == "Failed" and "nobody said within 0.003 h" in state.message
