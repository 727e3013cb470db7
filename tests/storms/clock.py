"""A clock that is set back, or forward, between two commands and in the middle of one."""

import random

from storage.refs import Refs
from storage.store import ArtifactStore
from tests.storms.scenario import scenario
from tests.storms.world import World

SECTION = "Surroundings"
DAY = 86_400.0


@scenario(
    SECTION,
    "clock set back or forward, between commands and in the middle of one",
    "done; the same bytes; names point at what was set last; gc takes nothing that a name reaches",
)
def moved(world: World, rng: random.Random) -> None:
    with world.root("empty") as root:
        for stage in ("sharded", "captioned"):
            first, later = (rng.choice((-1, -1, 1)) * rng.uniform(0.01, 400.0) * DAY for _ in range(2))
            world.make(stage, root, {"STORM_CLOCK": f"{first} {rng.uniform(0.0, 2.0)} {later}"}).done()
        refs = Refs(ArtifactStore(root).backend)
        before = {name: refs.get(name) for name in refs.names()}
        # The name moves there and back at other times: the later entry counts, whatever its clock said.
        for target in ("dataset/scenes", "captions/scenes"):
            back = {"STORM_CLOCK": f"{-rng.uniform(1.0, 400.0) * DAY} 60 0"}
            world.vip("ref", "set", "moving", target, root=root, env=back).done()
            assert refs.get("moving") == before[target]
        back = {"STORM_CLOCK": f"{rng.choice((-1, 1)) * rng.uniform(0.0, 400.0) * DAY} 60 0"}
        world.vip("gc", "--delete", root=root, env=back).done()
        world.vip("audit", "verify", root=root, env=back).done()
        world.same(root, "captioned")
