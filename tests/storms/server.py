"""A Prefect server that dies in the middle of a run and comes back."""

import random
import time

from tests.storms.scenario import scenario
from tests.storms.world import World

SECTION = "Surroundings"


@scenario(
    SECTION,
    "Prefect's server killed in the middle of a run, and started again",
    "done, or one line and exit 1; the second call finishes",
)
def killed(world: World, rng: random.Random) -> None:
    with world.root("sharded") as root:
        with world.start(*world.arguments("captioned"), root=root) as run:
            run.poll(rng.uniform(0.0, 4.0))
            world.prefect.kill()
            time.sleep(rng.uniform(0.0, 3.0))
            world.prefect.start()
            ended = run.end().well()
        assert ended.code in (0, 1), ended.told
        world.make("captioned", root).done()
        world.same(root, "captioned")


@scenario(SECTION, "no Prefect server where one is configured", "one line and exit 1; the second call finishes")
def absent(world: World, rng: random.Random) -> None:
    with world.root("empty") as root:
        nowhere = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
        with world.start(*world.arguments("sharded"), root=root, env=nowhere, fresh=True) as run:
            run.end().refused("Prefect's server at http://127.0.0.1:9/api")
        world.make("sharded", root).done()
        world.same(root, "sharded")
