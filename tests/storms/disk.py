"""A disk that is full, and one that cannot be written to."""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.storms.command import Command
from tests.storms.scenario import scenario
from tests.storms.world import STAGES, World, copy_root

SECTION = "Surroundings"
FULL = ("No space left", "disk is full", "File too large")


class Disk:
    """A small file system of its own, which root may make; else the system's limit on the size of a file.

    Attributes:
        folder: where it is.
        mounted: whether it is a file system of its own.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self._size = folder, size
        folder.mkdir(parents=True)
        self.mounted = self._mount(f"size={size}", "-t", "tmpfs", "storm")

    def _mount(self, options: str, *what: str) -> bool:
        done = subprocess.run(["mount", "-o", options, *what, str(self.folder)], capture_output=True)
        return done.returncode == 0

    def grow(self) -> None:
        """Make room."""
        if self.mounted:
            assert self._mount("remount,size=1g")
        self._size = 0

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written for the length of the block."""
        if self.mounted:
            assert self._mount("remount,ro")
            yield
            assert self._mount("remount,rw")
            return
        modes = {path: path.stat().st_mode for path in (self.folder, *self.folder.rglob("*"))}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
        for path, mode in modes.items():
            path.chmod(mode)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Runs a command within the limit where there is no file system of its own."""
        return () if self.mounted or not self._size else ("prlimit", f"--fsize={self._size}")


@contextlib.contextmanager
def disk(world: World, size: int = 1 << 30) -> Iterator[Disk]:
    """A disk for a round."""
    made = Disk(world.new_folder() / "disk", size)
    try:
        yield made
    finally:
        if made.mounted:
            subprocess.run(["umount", "-l", str(made.folder)], check=True)


@scenario(
    SECTION, "disk full", "one line and exit 1, or done where there is room; with more room the second call finishes"
)
def full(world: World, rng: random.Random) -> None:
    stage = rng.choice(("sharded", "captioned", "trained"))
    before = world.calm(STAGES[STAGES.index(stage) - 1])
    needed = size_of(world.calm(stage)) - size_of(before)
    with disk(world, size_of(before) + int(needed * rng.uniform(0.0, 1.1)) + (64 << 10)) as small:
        root, scratch = small.folder / "root", small.folder / "tmp"
        copy_root(before, root, links=False)
        scratch.mkdir()
        # Half of the time what a stage is making lies on the same disk.
        env = {**world.env, **({"TMPDIR": str(scratch)} if rng.random() < 0.5 else {})}
        with Command(*world.arguments(stage), root=root, env=env, **world.how(small.prefix)) as command:
            ended = command.end()
        if ended.code:
            ended.refused(*FULL)
            left = [path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor_")]
            assert not left, f"what it was making is left: {left}"  # but for torch's own cache
        small.grow()
        world.make(stage, root).done()
        world.same(root, stage)


@scenario(SECTION, "read-only root", "reading commands work, writing ones end with one line and exit 1")
def read_only(world: World, rng: random.Random) -> None:
    with disk(world) as small:
        root = small.folder / "root"
        copy_root(world.calm("sharded"), root, links=False)
        env = {"VIP_SCRATCH": str(world.new_folder())} if rng.random() < 0.5 else {}
        reading = [("audit", "verify"), ("ref", "list"), ("gc",), ("audit", "impact", "--image", world.first_image)]
        writing = [
            world.arguments("captioned"),
            ("ref", "set", "other", "dataset/scenes"),
            ("forget", world.first_image, "--reason", "asked to"),
            ("shard", str(world.images), "--name", "others", "--bits", "1"),
        ]
        with small.read_only():
            for command in rng.sample(reading, 2):
                world.vip(*command, root=root, env=env).done()
            for command in rng.sample(writing, 2):
                world.vip(*command, root=root, env=env).refused("Read-only file system", "Permission denied", "denied")
        world.make("captioned", root).done()
        world.same(root, "captioned")


def size_of(folder: Path) -> int:
    """Bytes that a copy of a folder takes on a disk, in whole pages."""
    sizes = [path.lstat().st_size for path in folder.rglob("*") if "scratch" not in path.parts[-3:]]
    return sum(-(-size // os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PAGE_SIZE") for size in sizes)
