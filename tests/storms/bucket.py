"""A bucket whose server refuses, stumbles, is late, or answers by halves."""

import random
import threading
import uuid

from tests.s3_server import S3Server
from tests.storms.scenario import scenario
from tests.storms.world import World

SECTION = "Surroundings"


@scenario(
    SECTION,
    "S3 answers 503, late, by halves or not at all, at random",
    "done, or one line and exit 1; the second call finishes; the same digests as on a disk",
)
def stumbling(world: World, rng: random.Random) -> None:
    server, root, env = bucket(world)
    kinds = rng.sample(("503", "reset", "slow", "half", "409"), 2)
    server.storm(kinds, share=rng.uniform(0.02, 0.15), seed=rng.randrange(1 << 30))
    try:
        for stage in ("sharded", "captioned"):
            world.make(stage, root, env).well()
    finally:
        server.storm([], 0.0, 0)
    for stage in ("sharded", "captioned"):
        world.make(stage, root, env).done()
    with server.here():
        world.same(root, "captioned")


@scenario(
    SECTION,
    "S3 answers 503 to everything from a moment on",
    "one line and exit 1, or done before it; when it is well the second call finishes",
)
def down(world: World, rng: random.Random) -> None:
    server, root, env = bucket(world)
    timer = threading.Timer(rng.uniform(0.0, 2.5), server.storm, (["503"], 1.0, 0))
    timer.start()
    try:
        ended = world.make("sharded", root, env).well()
        assert ended.code in (0, 1), ended.told
    finally:
        timer.cancel()
        timer.join()
        server.storm([], 0.0, 0)
    world.make("sharded", root, env).done()
    with server.here():
        world.same(root, "sharded")


def bucket(world: World) -> tuple[S3Server, str, dict[str, str]]:
    """A server, an empty root in it, and what a command needs to find it."""
    server = world.s3()
    root = server.bucket(f"bucket-{uuid.uuid4().hex[:12]}") + "/root"
    return server, root, {**server.environment, "VIP_SCRATCH": str(world.new_folder())}
