"""Endpoint: one server as the client sees it, its health and how many requests it can use."""

import asyncio
import time
from dataclasses import dataclass

import aiohttp

from vip.serving.identity import base_url


@dataclass(frozen=True)
class ClientSettings:
    """How requests are sent; nothing here can change an answer.

    Attributes:
        deadline: seconds a request may take.
        attempts: tries before the error of a row becomes its answer; throttling and dead servers do not count.
        dead_after: seconds without a healthy answer after which a server counts as dead.
        stall: seconds without any progress after which the run gives up.
        first_in_flight, most_in_flight: requests in flight to one server at the start, and at most.
        poll: seconds between looks at a server's metrics.
        fixed_in_flight: keep exactly that many instead of adapting (for measurements).
        publish_every: seconds between segments of answers.
    """

    deadline: float = 120.0
    attempts: int = 5
    dead_after: float = 6.0
    stall: float = 180.0
    first_in_flight: int = 32
    most_in_flight: int = 512
    poll: float = 0.5
    fixed_in_flight: int | None = None
    publish_every: float = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a vLLM says of its load."""

    running: float
    waiting: float
    cache: float
    preemptions: float


_GAUGES = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "cache",
    "vllm:num_preemptions_total": "preemptions",
}


def read_load(text: str) -> Load | None:
    """Sum the gauges of a metrics page over its engines; None where it is no vLLM's."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("vllm:"):
            continue
        name = line.partition("{")[0].partition(" ")[0]
        field = _GAUGES.get(name)
        if field:
            found[field] = found.get(field, 0.0) + float(line.rpartition(" ")[2])
    if "running" not in found or "waiting" not in found:
        return None
    return Load(found["running"], found["waiting"], found.get("cache", 0.0), found.get("preemptions", 0.0))


class Endpoint:
    """State of one server.

    ``limit`` is how many requests may be in flight; ``ready`` is cleared while the server is throttling or suspect.
    """

    def __init__(self, url: str, settings: ClientSettings) -> None:
        self.base = base_url(url)
        self.url = f"{self.base}/v1/chat/completions"
        self.settings = settings
        self.limit = settings.fixed_in_flight or min(settings.first_in_flight, settings.most_in_flight)
        self.in_flight = self.workers = self.peak = 0
        self.completed = self.timeouts = 0
        self.dead = False
        self.cause = ""
        self.ready = asyncio.Event()
        self.ready.set()
        self.last_success = time.monotonic()
        self.probe: asyncio.Task[None] | None = None
        self.poll = settings.poll
        self._throttled_until = 0.0
        self._load: Load | None = None
        self._mark = (time.monotonic(), 0)
        self._best_rate = 0.0
        self._best_limit = self.limit

    def succeeded(self) -> None:
        """A request was answered."""
        self.completed += 1
        self.timeouts = 0
        self.last_success = time.monotonic()

    def throttle(self, seconds: float) -> float:
        """The server asks for less (429): halve once a second at most, and tell how long to wait."""
        now = time.monotonic()
        if now >= self._throttled_until:
            self._throttled_until = now + 1.0
            if self.settings.fixed_in_flight is None:
                self.limit = max(1, self.limit // 2)
        return max(seconds, 0.1)

    def adapt(self, load: Load | None) -> None:
        """Set ``limit`` from the server's queue, cache and preemptions, or from throughput where it tells nothing.

        The server is to be full and its queue short: more while nothing waits there and all we may send is in flight,
        less when requests queue, when the cache makes it preempt, or when more in flight brought fewer answers.
        """
        if self.settings.fixed_in_flight is not None:
            return
        limit = self.limit
        self._adapt(load)
        # A metrics page costs the server some of the CPU that answers need: look less often where all is well.
        self.poll = self.settings.poll if self.limit != limit else min(8 * self.settings.poll, 1.5 * self.poll)

    def _adapt(self, load: Load | None) -> None:
        now = time.monotonic()
        before, self._load = self._load, load
        since, completed = self._mark
        rate = (self.completed - completed) / max(now - since, 1e-6)
        self._mark = (now, self.completed)
        busy = self.peak >= 0.9 * self.limit
        self.peak = self.in_flight
        if now < self._throttled_until:
            return
        preempted = load is not None and before is not None and load.preemptions > before.preemptions
        if load is not None and (preempted or (load.cache > 0.98 and load.waiting > 0)):
            self.limit = max(4, int(0.8 * self.limit))
        elif load is not None and load.waiting > max(8.0, 0.25 * load.running):
            self.limit = max(4, self.limit - max(1, int(load.waiting / 2)))
        elif busy and (load is None or load.waiting <= max(2.0, 0.1 * load.running)):
            self._climb(rate)

    def _climb(self, rate: float) -> None:
        if rate > 1.03 * self._best_rate:
            self._best_rate, self._best_limit = rate, self.limit
        elif self.limit >= 2 * self._best_limit:
            # Twice as many in flight brought nothing: stay where it was good, and forget slowly what was best.
            self._best_rate *= 0.98
            return
        self.limit = min(self.settings.most_in_flight, max(self.limit + 4, int(1.5 * self.limit)))

    async def load(self, session: aiohttp.ClientSession) -> Load | None:
        """The server's metrics, or None where it has none."""
        try:
            async with session.get(f"{self.base}/metrics", timeout=aiohttp.ClientTimeout(total=5)) as answer:
                return read_load(await answer.text()) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    async def healthy(self, session: aiohttp.ClientSession) -> bool:
        """Whether the server answers; a server without ``/health`` is healthy when it answers at all."""
        try:
            async with session.get(f"{self.base}/health", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status < 500
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.cause = describe(error)
            return False


def describe(error: BaseException) -> str:
    """An exception in a few words."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
