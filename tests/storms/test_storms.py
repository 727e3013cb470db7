"""Each storm once; ``python -m bench storms`` makes twenty rounds of each."""

import random

import pytest

from tests.hostile_page import compare_section
from tests.storms.every import storms
from tests.storms.world import World

STORMS = storms()
TEXT = {
    "Two at once": """Two commands on one root at a time. Every round is compared with what one command alone makes
there: every artifact, byte for byte.""",
    "Surroundings": """What comes of a run when what it stands on fails. `One line` says on standard error what is wrong
and what to do: there is no traceback, and no process is left. The second call is the same command when all is well.""",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("storms")) as made:
        yield made


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [storm.name for storm in STORMS])
def test_the_outcome_is_as_the_docs_say(name, world):
    (storm,) = (storm for storm in STORMS if storm.name == name)
    storm.round(world, random.Random(name))


@pytest.mark.parametrize("section", TEXT)
def test_the_page_in_the_docs_is_what_the_storms_assert(section):
    said = {storm.name: storm.outcome for storm in STORMS if storm.section == section}
    compare_section(section, TEXT[section], said)
