"""Endpoint: one server as the client sees it, its health and how many requests it can use."""

import asyncio
import time
from dataclasses import dataclass, replace

import aiohttp

from vip.captioning.concurrency import Concurrency, Load
from vip.serving.http import LONGEST_BODY
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
        find_every: seconds between looks at which endpoints there are.
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
    find_every: float = 2.0


def at_most(in_flight: int | None) -> ClientSettings:
    """The usual settings, with so many requests in flight to one server at most."""
    usual = ClientSettings()
    if in_flight is None:
        return usual
    return replace(usual, first_in_flight=min(usual.first_in_flight, in_flight), most_in_flight=in_flight)


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

    ``ready`` is cleared while the server is suspect; ``left`` says that it is no longer named, and ``dead`` with it.
    """

    def __init__(self, url: str, settings: ClientSettings) -> None:
        self.base = base_url(url)
        self.url = f"{self.base}/v1/chat/completions"
        self.settings = settings
        self.concurrency = Concurrency(settings.first_in_flight, settings.most_in_flight, settings.fixed_in_flight)
        self.in_flight = self.workers = self.completed = self.timeouts = 0
        self.dead = self.left = False
        self.cause = ""
        self.ready = asyncio.Event()
        self.ready.set()
        self.last_success = time.monotonic()
        self.probe: asyncio.Task[None] | None = None
        self.poll = settings.poll / 2

    def leave(self) -> None:
        """Send it nothing more; what it has is answered."""
        self.dead = self.left = True
        self.ready.set()

    def come_back(self) -> None:
        """It is named again."""
        self.dead = self.left = False
        self.timeouts, self.last_success = 0, time.monotonic()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self.concurrency.limit

    def answered(self) -> None:
        """A request was answered; called while it still counts as in flight."""
        self.completed += 1
        self.timeouts = 0
        self.last_success = time.monotonic()
        self.concurrency.answered(self.last_success, self.in_flight + 1)

    def adapt(self, load: Load | None) -> None:
        """Heed the server's metrics, and look less often where all is well: a page costs it CPU that answers need."""
        before = self.limit
        self.concurrency.told(load, time.monotonic())
        if self.concurrency.filling and load is not None:
            self.poll = self.settings.poll / 2
        else:
            self.poll = self.settings.poll if self.limit != before else min(8 * self.settings.poll, 1.5 * self.poll)

    async def load(self, session: aiohttp.ClientSession) -> Load | None:
        """The server's metrics, or None where it has none."""
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with session.get(f"{self.base}/metrics", timeout=timeout, allow_redirects=False) as answer:
                return read_load((await read_body(answer)).decode()) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    async def healthy(self, session: aiohttp.ClientSession) -> bool:
        """Whether the server answers; a server without ``/health`` is healthy when it answers at all."""
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            async with session.get(f"{self.base}/health", timeout=timeout, allow_redirects=False) as answer:
                return answer.status < 500
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.cause = describe(error)
            return False


async def read_body(answer: aiohttp.ClientResponse) -> bytes:
    """The body of an answer.

    Raises:
        aiohttp.ClientPayloadError: where it is longer than any answer should be, unpacked.
    """
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > LONGEST_BODY:
            raise aiohttp.ClientPayloadError(f"answers more than {LONGEST_BODY:,} bytes")
    return b"".join(parts)


def describe(error: BaseException) -> str:
    """An exception in a few words."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
