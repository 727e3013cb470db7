"""Claims: who of several processes, on whatever hosts, works on what; agreed by get, list and put-if-absent alone.

Layout::

    claims/<work>/<item>/<number>.json         {"holder": ..., "aim": ...}; the highest number counts
    claims/<work>/holders/<holder>/<beat>.json  one every few seconds while the holder lives
    claims/<work>/holders/<holder>/over.json    it has ended, or was found dead

A claim holds for as long as its holder lives. Nobody compares clocks: a holder of this machine is asked by the lock on
its file in scratch, which the kernel lets go when the process dies; one elsewhere is dead when its beats have stood
still for some time by the watch of whoever looks. A claim keeps others from doing the same work; it is no lock: what
two do all the same, the store makes harmless.
"""

import fcntl
import json
import threading
import time
import uuid
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import TracebackType

from schemas.canonical import canonical_json
from storage.backend import Backend
from storage.lock import left_behind

BEAT_SECONDS = 10.0
SILENT_SECONDS = 45.0
LOOK_SECONDS = 1.0


class Claim(Enum):
    """What came of trying to claim an item."""

    OURS = "ours"
    HELD = "held"
    DONE = "done"
    """By a holder of the same aim that was seen alive and has ended well since."""


class Claims:
    """The claims of one process on one piece of work; a context manager, whose end lets go of what is still claimed.

    Args:
        backend: the root.
        work: names what is divided, as a hash.
        scratch: local folder for the lock.
        aim: what is wanted of an item. One holder at a time has it, whatever the aim; what it has done is done for
            those of its own aim, and the others have a look themselves.
        on_dead: called before the items of a holder of this machine that died are given to others.
        beat_seconds, silent_seconds: between beats, and without one before a holder elsewhere counts as dead.
        look_seconds: for how long what was seen of another holder is taken to hold.
    """

    def __init__(
        self,
        backend: Backend,
        work: str,
        scratch: Path,
        aim: str = "",
        on_dead: Callable[[], object] = lambda: None,
        beat_seconds: float = BEAT_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._backend, self._place, self._scratch, self._on_dead = backend, f"claims/{work}", scratch, on_dead
        self._beat_seconds, self._silent_seconds, self._look_seconds = beat_seconds, silent_seconds, look_seconds
        self._aim = aim
        self._own: _Holder | None = None
        self._others: dict[str, _Other] = {}
        self._held: dict[str, tuple[str, bool]] = {}

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(finished=False)

    def release(self, finished: bool) -> None:
        """Let go of all that is claimed; whoever waits for others has to do so first, or two wait for each other.

        Args:
            finished: whether all of it is done.
        """
        if self._own is not None:
            self._own.end(finished)
            self._own = None

    def look(self, item: str) -> Claim | None:
        """What became of an item that :meth:`take` found held; None where it can be taken."""
        holder, same_aim = self._held[item]
        if self._alive(holder):
            return Claim.HELD
        return Claim.DONE if self._others[holder].ended_well and same_aim else None

    def take(self, item: str) -> Claim:
        """Claim an item, unless somebody who lives holds it.

        What was published about the item before this call is to be read after it: then nothing is done twice.
        """
        if item in self._held and (known := self.look(item)) is not None:
            return known
        numbers = self._numbers(f"{self._place}/{item}")
        if numbers:
            told = json.loads(self._backend.get(f"{self._place}/{item}/{numbers[-1]:08d}.json"))
            holder = str(told["holder"])
            if self._own is not None and holder == self._own.name:
                return Claim.OURS
            if self._alive(holder):
                self._held[item] = holder, told.get("aim", "") == self._aim
                return Claim.HELD
        if self._own is None:
            self._own = _Holder(self._backend, f"{self._place}/holders", self._scratch, self._beat_seconds)
        record = canonical_json({"holder": self._own.name, "aim": self._aim})
        path = f"{self._place}/{item}/{numbers[-1] + 1 if numbers else 1:08d}.json"
        # A store may have taken the record although its answer was lost on the way: then it stands there already.
        if self._backend.put_if_absent(path, record) or self._backend.get(path) == record:
            return Claim.OURS
        return self.take(item)  # somebody was quicker

    def _alive(self, holder: str) -> bool:
        other = self._others.setdefault(holder, _Other())
        if other.ended or time.monotonic() < other.looked + self._look_seconds:
            return not other.ended
        other.looked = time.monotonic()
        lock = self._scratch / f"{holder}.holder"
        if self._read_end(holder, other):
            return False
        if lock.exists():
            self._bury(holder, lock)
            return not self._read_end(holder, other)
        beats = self._numbers(f"{self._place}/holders/{holder}")
        latest = beats[-1] if beats else 0
        if latest != other.beat:
            other.beat, other.changed = latest, other.looked
        elif other.looked - other.changed > self._silent_seconds:
            self._over(holder, well=False)
        return not self._read_end(holder, other)

    def _read_end(self, holder: str, other: "_Other") -> bool:
        try:
            told = json.loads(self._backend.get(f"{self._place}/holders/{holder}/over.json"))
        except FileNotFoundError:
            other.seen_alive = True
            return False
        other.ended = True
        # Of an earlier run's holder it says nothing: what it did may have been taken away since.
        other.ended_well = other.seen_alive and bool(told["well"])
        return True

    def _bury(self, holder: str, lock: Path) -> None:
        """End a holder of this machine whose lock is free; whoever gets the lock does, and nobody goes on before."""
        with left_behind(lock) as file:
            if file is not None:
                self._on_dead()
                self._over(holder, well=False)
                lock.unlink(missing_ok=True)

    def _numbers(self, folder: str) -> list[int]:
        names = (path.rpartition("/")[2].removesuffix(".json") for path in self._backend.list(folder))
        return sorted(int(name) for name in names if name.isdecimal())

    def _over(self, holder: str, well: bool) -> None:
        self._backend.put_if_absent(f"{self._place}/holders/{holder}/over.json", canonical_json({"well": well}))


class _Holder:
    """What makes us known as alive: a locked file for this machine, beats in the store for the others."""

    def __init__(self, backend: Backend, place: str, scratch: Path, beat_seconds: float) -> None:
        self.name = uuid.uuid4().hex
        self._backend, self._folder, self._beat_seconds = backend, f"{place}/{self.name}", beat_seconds
        scratch.mkdir(parents=True, exist_ok=True)
        self._path = scratch / f"{self.name}.holder"
        self._lock = self._path.open("xb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._ended = threading.Event()
        self._beat(1)
        self._thread = threading.Thread(target=self._live, name="claims", daemon=True)
        self._thread.start()

    def end(self, well: bool) -> None:
        self._ended.set()
        self._thread.join()
        self._backend.put_if_absent(f"{self._folder}/over.json", canonical_json({"well": well}))
        self._path.unlink(missing_ok=True)
        self._lock.close()

    def _beat(self, number: int) -> None:
        self._backend.put_if_absent(f"{self._folder}/{number:08d}.json", b"{}")

    def _live(self) -> None:
        number = 1
        while not self._ended.wait(self._beat_seconds):
            number += 1
            try:
                self._beat(number)
            except Exception:  # noqa: BLE001, S112 - a beat that fails costs nothing where the next one comes through
                continue


class _Other:
    """What is known of another holder; times by our own watch."""

    def __init__(self) -> None:
        self.ended = self.ended_well = self.seen_alive = False
        self.beat, self.changed, self.looked = -1, 0.0, float("-inf")
