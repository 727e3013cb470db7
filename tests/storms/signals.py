"""SIGTERM and SIGINT at any moment of any command."""

import random
import signal
import time
from pathlib import Path

from storage.refs import Refs
from storage.store import ArtifactStore
from tests.storms.command import Command, Ended
from tests.storms.pairs import with_rubbish
from tests.storms.scenario import scenario
from tests.storms.world import STAGES, World, equal, everything, whole

SIGNALS = (signal.SIGTERM, signal.SIGINT)
OUTCOME = "one line and a code above 0, or done; no process left; the second call finishes"

_lengths: dict[str, float] = {}


def at_any_moment(world: World, rng: random.Random, name: str, root: Path, *arguments: str) -> Ended:
    """Run a command and end it by a signal at a moment within the time that the last undisturbed one took."""
    moment = rng.uniform(0.0, _lengths.get(name, 3.0))
    began = time.monotonic()
    # Now and then a new interpreter, whose imports take most of the time; else a fork that is at work at once.
    fresh = rng.random() < 0.25
    with world.start(*arguments, root=root, fresh=fresh) as command:
        command.listening()
        time.sleep(moment)
        command.signal(rng.choice(SIGNALS))
        ended = command.end().well()
    if ended.code == 0:
        _lengths[name] = 0.9 * (time.monotonic() - began)
    return ended


def stage_under_signal(stage: str):
    """A round for the command that makes ``stage``."""

    def round(world: World, rng: random.Random) -> None:
        with world.root(STAGES[STAGES.index(stage) - 1]) as root:
            at_any_moment(world, rng, stage, root, *world.arguments(stage))
            timed(world, stage, root, *world.arguments(stage))
            world.same(root, stage)

    return round


for _stage, _command in (
    ("sharded", "shard"),
    ("captioned", "caption"),
    ("trained", "train"),
    ("evaluated", "evaluate"),
):
    scenario("Surroundings", f"SIGTERM or SIGINT at any time: vip {_command}", OUTCOME)(stage_under_signal(_stage))


@scenario("Surroundings", "SIGTERM or SIGINT at any time: vip gc", OUTCOME)
def collecting(world: World, rng: random.Random) -> None:
    command = ("gc", "--delete", "--grace-hours", "0")
    wanted = everything(world.calm("sharded"))
    with world.copy(with_rubbish(world)) as root:
        at_any_moment(world, rng, "gc", root, *command)
        whole(root)
        timed(world, "gc", root, *command)
        whole(root)
        equal(everything(root), wanted)
        assert {path.parent.parent.name for path in root.glob("artifacts/*/*/*/manifest.json")} == {
            key for _, key in wanted
        }


@scenario("Surroundings", "SIGTERM or SIGINT at any time: vip forget", OUTCOME)
def forgetting(world: World, rng: random.Random) -> None:
    image = rng.choice(sorted(world.images.iterdir()))
    command = ("forget", str(image), "--reason", "asked to", "--by", "storm")
    with world.root("captioned") as root:
        at_any_moment(world, rng, "forget", root, *command)
        timed(world, "forget", root, *command)
        whole(root)
        data = image.read_bytes()
        assert not [path for path in root.rglob("*") if path.is_file() and data in path.read_bytes()]
        record = Refs(ArtifactStore(root).backend).get("takedowns")
        assert record is not None


def timed(world: World, name: str, root: Path, *command: str) -> None:
    """The second call finishes; how long it took is where later rounds put their moment."""
    began = time.monotonic()
    world.vip(*command, root=root).done()
    _lengths.setdefault(name, time.monotonic() - began)


@scenario("Surroundings", "SIGTERM or SIGINT at any time: a run with a Prefect server of its own", OUTCOME)
def own_server(world: World, rng: random.Random) -> None:
    own = {"PREFECT_API_URL": "", "PREFECT_HOME": ""}
    with world.root("empty") as root:
        with Command(*world.arguments("sharded"), root=root, env=own) as command:
            command.listening()
            command.poll(rng.uniform(0.0, _lengths.get("own", 20.0)))
            command.signal(rng.choice(SIGNALS))
            command.end().well()
        world.make("sharded", root).done()
        world.same(root, "sharded")
