"""What a storm is: one thing that goes wrong or two things at once, what must come of it, and how one round is made."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.storms.world import World

Round = Callable[[World, random.Random], None]
"""Makes one round, with a moment and details that the generator draws; an AssertionError says what broke."""


@dataclass(frozen=True)
class Scenario:
    """A storm.

    Attributes:
        section: ``Two at once`` or ``Surroundings``: where the page of the docs shows it.
        name: as the page and the bench call it.
        outcome: what every round asserts.
        round: makes one.
    """

    section: str
    name: str
    outcome: str
    round: Round


SCENARIOS: list[Scenario] = []


def scenario(section: str, name: str, outcome: str) -> Callable[[Round], Round]:
    """Put a round into the table."""

    def register(round: Round) -> Round:
        assert name not in {known.name for known in SCENARIOS}
        SCENARIOS.append(Scenario(section, name, outcome, round))
        return round

    return register
