"""What tests of several floors share."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side, one a core; torch in each would take all cores for itself. Read before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A real vLLM that serves the committed captioner, started once for all tests that only ask it."""
    from vip.serving.engine import Engine

    with Engine("nano", tmp_path_factory.mktemp("engine") / "vllm.log") as engine:
        yield engine
