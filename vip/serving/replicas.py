"""Replicas: several engines of one model on one host, started and stopped as one."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType

from schemas.errors import VipError
from vip.processes import free_port
from vip.serving.engine import Engine

Make = Callable[[int, int, str | None], Engine]
"""(number of the replica from 1, port, devices) -> an engine, not yet started."""


class Replicas:
    """Engines that serve the same weights, each on a port of its own; a context manager.

    Args:
        make: makes one of them.
        count: how many.
        port: of the first, the others follow it; free ones where None.
    """

    def __init__(self, make: Make, count: int, port: int | None = None) -> None:
        places = zip(_ports(count, port), share_devices(count), strict=True)
        self.engines = [make(number, at, devices) for number, (at, devices) in enumerate(places, 1)]
        self._fallen: set[int] = set()

    @property
    def endpoints(self) -> list[str]:
        """Base URLs of those that have not ended."""
        return [engine.endpoint for number, engine in enumerate(self.engines, 1) if number not in self._fallen]

    def fallen(self) -> list[str]:
        """One line for each that has ended since the last call, by number, endpoint and cause.

        Raises:
            VipError: where none is left.
        """
        lines = []
        for number, engine in enumerate(self.engines, 1):
            if number in self._fallen:
                continue
            try:
                engine.check()
            except VipError as error:
                self._fallen.add(number)
                lines.append(f"replica {number} of {len(self.engines)} ({engine.endpoint}): {error}")
        if lines and not self.endpoints:
            raise VipError("; ".join(lines) if len(self.engines) > 1 else lines[0].partition(": ")[2])
        return lines

    def __enter__(self) -> "Replicas":
        with ThreadPoolExecutor(len(self.engines), "replica") as starting:
            waiting = {starting.submit(engine.start): number for number, engine in enumerate(self.engines, 1)}
            try:
                for started in as_completed(waiting):
                    started.result()
            except BaseException as error:  # Ctrl-C too must not leave a server behind, nor wait for the others
                self._stop()
                if isinstance(error, VipError) and len(self.engines) > 1:
                    raise VipError(f"replica {waiting[started]}: {error.reason}", error.remedy) from error
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        with ThreadPoolExecutor(len(self.engines), "replica") as stopping:
            list(stopping.map(Engine.stop, self.engines))


def share_devices(count: int) -> list[str | None]:
    """Which GPUs each of ``count`` engines sees, as ``CUDA_VISIBLE_DEVICES`` names them: equal parts of what is there.

    None where there is one engine, or fewer GPUs than engines: then all of them see the same.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = Path("/proc/driver/nvidia/gpus")
    found = named.split(",") if named else [str(n) for n in range(len(list(cards.iterdir())) if cards.exists() else 0)]
    size = len(found) // count
    if count == 1 or not size:
        return [None] * count
    return [",".join(found[start : start + size]) for start in range(0, size * count, size)]


def _ports(count: int, first: int | None) -> list[int]:
    if first is not None:
        return list(range(first, first + count))
    found: dict[int, None] = {}
    while len(found) < count:
        found[free_port()] = None
    return list(found)
