"""Two at once: the same work twice, other work, a collection, a takedown and a reader beside it."""

import random
import shutil
import time
from pathlib import Path

from schemas.errors import VipError
from storage.refs import Refs
from storage.store import ArtifactStore
from tests.storms.command import Ended
from tests.storms.scenario import scenario
from tests.storms.world import IMAGES, MODEL, World, equal, everything, whole
from vip.nano.dataset import DEMO_SEED, write_scenes

SECTION = "Two at once"
OTHERS = ("report", "promotion")
"""Kinds that say something about their run, so that two runs may make two."""


@scenario(SECTION, "two identical captioning runs", "both done; one artifact a key, the same bytes as from one run")
def identical(world: World, rng: random.Random) -> None:
    with world.root("sharded") as root:
        both(world, root, world.arguments("captioned"), world.arguments("captioned"))
        world.same(root, "captioned")


@scenario(SECTION, "two captioning runs of different specs", "both done; the captions of each as from one run alone")
def specs(world: World, rng: random.Random) -> None:
    one, other = (
        world.arguments("captioned"),
        tuple("nano-split" if word == "nano-joint" else word for word in world.arguments("captioned")),
    )
    wanted = world.made("two specs", "captioned", other)
    with world.root("sharded") as root:
        both(world, root, *rng.sample((one, other), 2))
        whole(root)
        equal(everything(root), everything(wanted))


@scenario(SECTION, "two identical whole runs", "both done; one artifact a key, the same bytes as from one run")
def runs(world: World, rng: random.Random) -> None:
    command = ("retrain", "--config", str(retrain_config(world)))
    wanted = world.made("retrained", "empty", command)
    with world.root("empty") as root:
        both(world, root, command, command)
        whole(root)
        equal(without(everything(root), OTHERS), without(everything(wanted), OTHERS))
        promoted = [Refs(ArtifactStore(place).backend).get("promoted/scenes") for place in (root, wanted)]
        assert promoted[0] == promoted[1] is not None


@scenario(SECTION, "a run beside gc of what is old", "done; gc takes what no name reaches and nothing of the run")
def beside_gc(world: World, rng: random.Random) -> None:
    rubbish = with_rubbish(world)
    with world.copy(rubbish) as root:
        with world.start(*world.arguments("captioned"), root=root) as run:
            while run.poll(rng.uniform(0.0, 0.5)) is None:
                world.vip("gc", "--delete", root=root).done()
            run.end().done()
        world.same(root, "captioned")


@scenario(
    SECTION,
    "a run beside gc without grace",
    "one line, or done; never half an artifact; the second call finishes",
)
def beside_ruthless_gc(world: World, rng: random.Random) -> None:
    stage, before = rng.choice([("sharded", "empty"), ("captioned", "sharded")])
    with world.root(before) as root:
        with world.start(*world.arguments(stage), root=root) as run:
            while run.poll(rng.uniform(0.0, 0.3)) is None:
                world.vip("gc", "--delete", "--grace-hours", "0", root=root).well()
                half(root)
            run.end().well()
        world.make(stage, root).done()
        world.vip("gc", "--delete", "--grace-hours", "0", root=root).done()
        world.same(root, stage)


@scenario(
    SECTION,
    "a run beside forget",
    "one line, or done; no byte of the image is left, and the second call of the run does not bring it back",
)
def beside_forget(world: World, rng: random.Random) -> None:
    stage, before = rng.choice([("sharded", "empty"), ("sharded", "sharded"), ("captioned", "sharded")])
    image = rng.choice(sorted(world.images.iterdir()))
    data = image.read_bytes()
    with world.root(before) as root:
        with world.start(*world.arguments(stage), root=root) as run:
            run.poll(rng.uniform(0.0, 2.0))
            forgotten = forget(world, root, image)
            run.end().well()
        forgotten.well()
        world.make("sharded", root).done()
        forget(world, root, image).done()
        world.make("sharded", root).done()
        world.make("captioned", root).done()
        whole(root)
        assert not [path for path in files(root) if data in path.read_bytes()]


@scenario(SECTION, "readers beside a writer", "both done: a reader sees a whole artifact or none")
def beside_readers(world: World, rng: random.Random) -> None:
    readers = (
        ("audit", "verify"),
        ("ref", "list"),
        ("gc",),
        ("audit", "impact", "--image", world.first_image),
        ("export", "captions", "captions/scenes", "--out", "{folder}/out"),
    )
    with world.root("sharded") as root, world.start(*world.arguments("captioned"), root=root) as writer:
        while writer.poll() is None:
            reader = tuple(word.format(folder=root.parent) for word in rng.choice(readers))
            read = world.vip(*reader, root=root)
            # Before the captions are there, an export says so.
            read.well() if reader[0] == "export" else read.done()
            shutil.rmtree(root.parent / "out", ignore_errors=True)
        writer.end().done()
        world.same(root, "captioned")


def both(world: World, root: Path, one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Run two commands at once; both do their work."""
    with world.start(*one, root=root) as first, world.start(*other, root=root) as second:
        first.end().done()
        second.end().done()


def forget(world: World, root: Path, image: Path) -> Ended:
    return world.vip("forget", str(image), "--reason", "asked to", "--by", "storm", root=root)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def half(root: Path) -> None:
    """Assert that what is published has all its files, or in a moment has, or is withdrawn, by whoever writes it."""
    store = ArtifactStore(root)
    for path in list(store.backend.list("published")):
        until = time.monotonic() + 10.0
        while missing := _missing(store, path):
            assert time.monotonic() < until, (path, missing)
            time.sleep(0.05)


def _missing(store: ArtifactStore, path: str) -> list[str]:
    """Files that a publication speaks of and that are not there."""
    _, kind, name = path.split("/")
    try:
        made = store.get(kind, name.removesuffix(".json"))
    except VipError:
        return ["manifest.json"]
    return [one for one in made.outputs if not store.backend.exists(store.path(made, one))] if made else []


def with_rubbish(world: World) -> Path:
    """A sharded root that also holds a dataset, two days old, which no name reaches any more."""
    others, two_days_ago = world.shared / "others", {"STORM_CLOCK": "-172800 60 0"}
    write_scenes(others, 8, first_seed=DEMO_SEED + IMAGES)
    root = world.made("rubbish", "sharded", ("shard", str(others), "--name", "others", "--bits", "1"), env=two_days_ago)
    shutil.rmtree(root / "refs" / "dataset" / "others", ignore_errors=True)
    return root


def retrain_config(world: World) -> Path:
    """The config of a small whole run."""
    caption = {"model": MODEL, "endpoints": [world.model.url], "gate": OPEN, "imagined": None}
    values = {
        "source": str(world.images),
        "shard": {"name": "scenes", "bits": 1, "test_share": 0.25},
        "caption": caption,
        "train": {"steps": 2, "warmup": 1, "batch": 2},
        "evaluate": {"settings": ["oracle"], "images": 3, "steps": 2, "resamples": 100, "floor": False},
        "promote": {"setting": "oracle"},
    }
    return world.config("retrain", values)


OPEN = dict.fromkeys(("rejected", "refused", "cut", "short", "repeated", "duplicated", "leaking", "leak_share"), 1.0)


def without(found: dict, kinds: tuple[str, ...]) -> dict:
    return {name: digest for name, digest in found.items() if name[0] not in kinds}
