"""Every storm there is."""

from tests.storms import bucket, clock, disk, pairs, server, signals
from tests.storms.scenario import SCENARIOS, Scenario

_FILES = (pairs, signals, disk, bucket, server, clock)


def storms() -> list[Scenario]:
    """All scenarios, those of one file together."""
    assert _FILES
    return list(SCENARIOS)
