"""Client: many requests to many servers, as many in flight as they can use, and nothing lost when one dies."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field

import aiohttp

from schemas.endpoint import API_KEY
from schemas.errors import VipError
from vip.captioning.endpoint import ClientSettings, Endpoint, describe, read_body
from vip.captioning.reply import Reply, error_text, read_reply
from vip.captioning.request import Request
from vip.serving.http import auth_headers

log = logging.getLogger(__name__)

_HEADERS = {"Content-Type": "application/json"}
_FATAL = {401: "refuses us", 403: "refuses us", 404: "does not know the model or the path"}
_FATAL |= dict.fromkeys((301, 302, 303, 307, 308), "sends us elsewhere")  # it would choose who sees images and key
_NEVER_SERVED = 100


@dataclass(slots=True)
class Job:
    """A request with its body, ready to send."""

    request: Request
    body: bytes
    attempts: int = 0


@dataclass
class ClientStats:
    """What the client did."""

    sent: int = 0
    retries: int = 0
    throttled: int = 0
    by_endpoint: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0


def retry_after(header: str | None) -> float:
    """The seconds that a server asks for by ``Retry-After``, within bounds; a few tenths where it names none."""
    return min(max(float(header) if header and header.isdecimal() else 0.2, 0.1), 30.0)


class Client:
    """Sends jobs until there are no more.

    Args:
        endpoints: base URLs.
        model_name: what every answer must say it comes from; None accepts any (declared models).
        settings: limits and deadlines.
        watch: called twice a second; raises where a server of our own has died.
        find: says which endpoints there are now; asked every few seconds in a thread. New ones are admitted, those that
            are no longer named finish what they have. None: the list stays.
        admit: raises for a new endpoint that serves another model; called in a thread.
        on_change: told in a line of endpoints that come, go or are turned away.
    """

    def __init__(
        self,
        endpoints: list[str],
        model_name: str | None = None,
        settings: ClientSettings | None = None,
        watch: Callable[[], None] | None = None,
        find: Callable[[], list[str]] | None = None,
        admit: Callable[[str], None] | None = None,
        on_change: Callable[[str], None] = log.info,
    ) -> None:
        if not endpoints and find is None:
            raise VipError("no endpoint to ask", "give --endpoint, or let `vip caption` start a server")
        self.settings = settings or ClientSettings()
        self.stats = ClientStats()
        self._urls, self._model_name, self._watch = endpoints, model_name, watch
        self._find, self._admit, self._on_change = find, admit, on_change
        self._turned_away: dict[str, str] = {}

    async def run(self, jobs: AsyncIterator[Job], on_reply: Callable[[Reply], None]) -> None:
        """Send every job and hand over every reply as it arrives, in any order.

        Raises:
            VipError: where no endpoint answers any more, an endpoint refuses us, or nothing moves; every reply that had
                arrived was handed over before.
        """
        settings = self.settings
        # Where they may come and go, each is admitted first.
        urls = () if self._find is not None else dict.fromkeys(self._urls)
        self._endpoints = [Endpoint(url, settings) for url in urls]
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._freed = asyncio.Event()
        self._outstanding = self._served = self._refused = 0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_reply, self._fed, self._progressed = on_reply, False, time.monotonic()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(total=settings.deadline)
        self._tasks: set[asyncio.Task[None]] = set()
        headers = _HEADERS | auth_headers()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as self._session:
            self._spawn(self._feed(jobs))
            self._spawn(self._oversee())
            for endpoint in self._endpoints:
                self._open(endpoint)
            if self._find is not None:
                self._spawn(self._follow(self._find))
            try:
                await self._over
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                self.stats.by_endpoint = {endpoint.base: endpoint.completed for endpoint in self._endpoints}

    def _open(self, endpoint: Endpoint) -> None:
        self._spawn(self._control(endpoint))
        self._staff(endpoint)

    async def _follow(self, find: Callable[[], list[str]]) -> None:
        """Keep to the endpoints that are named: take in new ones that serve our model, send nothing to the others."""
        told = ""
        while True:
            try:
                named = await asyncio.to_thread(find)
                self._let_go(named)
                for url in named:
                    await self._take_in(url)
            except VipError as error:
                if str(error) != told:  # a list that cannot be read now is not an empty one
                    told = str(error)
                    self._on_change(f"{told}; going on with the endpoints known")
            await asyncio.sleep(self.settings.find_every)

    def _let_go(self, named: list[str]) -> None:
        for endpoint in self._endpoints:
            if endpoint.base not in named and not endpoint.left:
                endpoint.leave()
                self._on_change(f"{endpoint.base} is no longer named: it gets no more requests")
        self._turned_away = {url: reason for url, reason in self._turned_away.items() if url in named}

    async def _take_in(self, url: str) -> None:
        known = next((endpoint for endpoint in self._endpoints if endpoint.base == url), None)
        if known is not None and not known.left:
            return
        try:
            if self._admit is not None:
                await asyncio.to_thread(self._admit, url)
        except VipError as error:
            # One that does not answer yet is asked again; either is told once.
            if url not in self._turned_away:
                self._turn_away(url, error.reason)
            return
        self._turned_away.pop(url, None)
        if known is not None:
            known.come_back()
            self._staff(known)
        else:
            self._endpoints.append(endpoint := Endpoint(url, self.settings))
            self._open(endpoint)
        self._freed.set()
        self._on_change(f"{url} takes part")

    def _turn_away(self, url: str, reason: str) -> None:
        self._turned_away[url] = reason
        self._on_change(f"not used: {reason}")

    def _refuse(self, endpoint: Endpoint, job: Job, reason: str, remedy: str) -> None:
        """An endpoint is not what it was taken for: that ends the run, or its own part in it where others may come."""
        if self._find is None:
            self._fail(VipError(reason, remedy))
            return
        if not endpoint.left:
            endpoint.leave()  # it is asked again who it is before it gets another request
            self._turn_away(endpoint.base, reason)
        self._queue.put_nowait(job)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fail(task.exception())

    def _fail(self, error: BaseException | None) -> None:
        if error is not None and not self._over.done():
            self._over.set_exception(error)

    async def _feed(self, jobs: AsyncIterator[Job]) -> None:
        async for job in jobs:
            # Read ahead only as far as the servers can use, so that memory does not grow with the rows.
            while self._outstanding >= 32 + 1.25 * sum(e.limit for e in self._endpoints if not e.dead):
                self._freed.clear()
                await self._freed.wait()
            self._outstanding += 1
            self._queue.put_nowait(job)
        self._fed = True
        self._maybe_over()

    def _maybe_over(self) -> None:
        if self._fed and not self._outstanding and not self._over.done():
            self._over.set_result(None)

    def _staff(self, endpoint: Endpoint) -> None:
        while endpoint.workers < endpoint.limit and not endpoint.dead:
            endpoint.workers += 1
            self._spawn(self._work(endpoint))

    async def _work(self, endpoint: Endpoint) -> None:
        try:
            while endpoint.workers <= endpoint.limit and not endpoint.dead:
                await endpoint.ready.wait()
                job = await self._queue.get()
                if not endpoint.ready.is_set() or endpoint.workers > endpoint.limit or endpoint.dead:
                    self._queue.put_nowait(job)
                    continue
                await self._send(endpoint, job)
        finally:
            endpoint.workers -= 1

    async def _send(self, endpoint: Endpoint, job: Job) -> None:
        start = time.monotonic()
        endpoint.in_flight += 1
        self.stats.in_flight += 1
        self.stats.most_in_flight = max(self.stats.most_in_flight, self.stats.in_flight)
        self.stats.sent += 1
        try:
            async with self._session.post(endpoint.url, data=job.body, allow_redirects=False) as answer:
                status, raw, after = answer.status, await read_body(answer), answer.headers.get("Retry-After")
        except TimeoutError:
            endpoint.timeouts += 1
            self._try_again(endpoint, job, f"no answer within {self.settings.deadline:g} s", start, suspect=True)
            return
        except (aiohttp.ClientError, OSError) as error:
            self._try_again(endpoint, job, describe(error), start, suspect=True)
            return
        finally:
            endpoint.in_flight -= 1
            self.stats.in_flight -= 1
        if status == 200:
            self._receive(endpoint, job, raw, start)
        elif status == 429:
            self.stats.throttled += 1
            endpoint.concurrency.throttled(time.monotonic())
            self._later(job, retry_after(after))
        elif status in (408, 425) or status >= 500:
            self._try_again(endpoint, job, error_text(status, raw), start, suspect=True)
        elif status in _FATAL:
            reason = f"endpoint {endpoint.base} {_FATAL[status]} ({error_text(status, raw)})"
            self._refuse(endpoint, job, reason, f"check the model name, the path and {API_KEY}")
        else:
            self._refused += 1
            if not self._served and self._refused >= _NEVER_SERVED:
                why = error_text(status, raw)
                self._fail(VipError(f"endpoint {endpoint.base} refuses every request ({why})", "check the spec"))
            endpoint.answered()
            self._finish(endpoint, job, Reply(job.request, error=error_text(status, raw)), start)

    def _receive(self, endpoint: Endpoint, job: Job, raw: bytes, start: float) -> None:
        try:
            reply, model = read_reply(job.request, raw)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            self._try_again(endpoint, job, f"malformed answer ({describe(error)})", start, suspect=False)
            return
        if self._model_name is not None and model not in (None, self._model_name):
            reason = f"endpoint {endpoint.base} answers as {model}, not as {self._model_name}"
            self._refuse(endpoint, job, reason, "restart it with `vip serve`, or run again without it")
            return
        endpoint.answered()
        self._served += 1
        if endpoint.workers < endpoint.limit:
            self._staff(endpoint)
        self._finish(endpoint, job, reply, start)

    def _finish(self, endpoint: Endpoint, job: Job, reply: Reply, start: float) -> None:
        reply.attempts, reply.seconds, reply.endpoint = job.attempts + 1, time.monotonic() - start, endpoint.base
        self._progressed = time.monotonic()
        self._outstanding -= 1
        self._freed.set()
        try:
            self._on_reply(reply)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the run and is raised by run()
            self._fail(error)
        self._maybe_over()

    def _try_again(self, endpoint: Endpoint, job: Job, why: str, start: float, suspect: bool) -> None:
        """A try failed: blame the server where it is unhealthy, else the row."""
        if suspect:
            endpoint.cause = why
            if endpoint.probe is None or endpoint.probe.done():
                endpoint.ready.clear()
                endpoint.probe = self._spawn(self._examine(endpoint))
            self._spawn(self._blame(endpoint, job, why, start, endpoint.probe))
        else:
            self._count(endpoint, job, why, start)

    async def _blame(self, endpoint: Endpoint, job: Job, why: str, start: float, probe: "asyncio.Task[None]") -> None:
        began = time.monotonic()
        await asyncio.wait([probe])
        if endpoint.dead or time.monotonic() - began > 1.0:
            self._queue.put_nowait(job)  # the server was down: not the row's fault
        else:
            self._count(endpoint, job, why, start)

    def _count(self, endpoint: Endpoint, job: Job, why: str, start: float) -> None:
        if job.attempts + 1 >= self.settings.attempts:
            self._finish(endpoint, job, Reply(job.request, error=why), start)
            return
        job.attempts += 1
        self.stats.retries += 1
        self._later(job, min(8.0, 0.25 * 2**job.attempts))

    def _later(self, job: Job, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds * random.uniform(0.5, 1.5), self._queue.put_nowait, job)

    async def _examine(self, endpoint: Endpoint) -> None:
        """Ask a suspect server for its health until it is well or counts as dead."""
        began = time.monotonic()
        while not await endpoint.healthy(self._session):
            if time.monotonic() - began > self.settings.dead_after:
                self._bury(endpoint)
                return
            await asyncio.sleep(0.25)
        silent = time.monotonic() - endpoint.last_success
        if endpoint.timeouts > 1 and silent > 2 * self.settings.deadline:
            endpoint.cause = f"takes requests but has answered none for {silent:.0f} s"
            self._bury(endpoint)
            return
        endpoint.ready.set()

    def _bury(self, endpoint: Endpoint) -> None:
        endpoint.dead = True
        endpoint.ready.set()  # its workers wake up and go
        # Where engines may come, the run waits for one, as long as it waits for an answer.
        if self._find is None and all(other.dead for other in self._endpoints):
            causes = "; ".join(f"{other.base} {other.cause}" for other in self._endpoints)
            self._fail(VipError(f"no endpoint answers any more: {causes}", "what was answered is kept; run again"))

    async def _control(self, endpoint: Endpoint) -> None:
        """Adapt the number in flight to the server's load; look now and then whether a dead one is back."""
        while True:
            await asyncio.sleep(endpoint.poll if not endpoint.dead else 5.0)
            if endpoint.left:
                continue
            if endpoint.dead:
                if await endpoint.healthy(self._session):
                    endpoint.dead, endpoint.timeouts, endpoint.last_success = False, 0, time.monotonic()
                    self._staff(endpoint)
                continue
            if endpoint.ready.is_set() and self.settings.fixed_in_flight is None:
                endpoint.adapt(await endpoint.load(self._session))
                self._freed.set()
            self._staff(endpoint)

    async def _oversee(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            if self._watch is not None:
                self._watch()
            waiting = time.monotonic() - self._progressed
            if self._outstanding and waiting > self.settings.stall:
                causes = [f"{e.base} {e.cause or 'throttles'}" for e in self._endpoints if not e.left]
                causes = [*causes, *self._turned_away.values()] or ["no endpoint is named any more"]
                self._fail(
                    VipError(
                        f"no answer for {waiting:.0f} s: {'; '.join(causes)}", "what was answered is kept; run again"
                    )
                )
            elif not self._outstanding:
                self._progressed = time.monotonic()
