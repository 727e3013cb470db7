"""A stand-in for an OpenAI-shaped server, for faults and load in tests and benches only; it answers from hashes.

Answers are a pure function of the request body, so that runs can be compared byte for byte.

    python -m tests.fake_openai --port 8000 --model fake --latency 0.05 --capacity 1000 --log asked.txt
"""

import argparse
import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

WORDS = ("wolf", "fox", "house", "tree", "boat", "tower", "tent", "cat", "red", "blue", "green", "white")
PLACES = ("meadow", "desert", "sea", "rock", "field", "dawn", "noon", "dusk", "night", "rain", "snow", "fog")

Fault = Callable[[web.Request, bytes, int], Awaitable[web.StreamResponse | None]]
"""(request, body, number of the request) -> what to answer instead, or None."""


@dataclass
class FakeServer:
    """What it answers and how fast.

    Attributes:
        capacity: requests answered a second at most; 0 for no bound.
        faults: asked in turn before every answer.
        log: file that gets the digest of every body that was asked, one a line.
        version_faults: what /version answers with at first: statuses.
        api_key: what everything under /v1 demands, as vLLM does; empty for nothing.
    """

    model: str = "fake"
    latency: float = 0.0
    capacity: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    text: Callable[[bytes], str] | None = None
    log: Path | None = None
    metrics: bool = True
    requests: int = 0
    running: int = 0
    waiting: int = 0
    most: int = 0
    asked: list[str] = field(default_factory=list)
    keep_asked: bool = True
    port: int = 0
    version: str = "0"
    version_faults: list[int] = field(default_factory=list)
    api_key: str = ""
    _free_at: float = 0.0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20, middlewares=[self._authorised])
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/version", self._version)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        return app

    @web.middleware
    async def _authorised(self, request: web.Request, handler) -> web.StreamResponse:
        told = request.headers.get("Authorization")
        if self.api_key and request.path.startswith("/v1/") and told != f"Bearer {self.api_key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return await handler(request)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _version(self, _: web.Request) -> web.Response:
        if self.version_faults:
            return web.Response(status=self.version_faults.pop(0))
        return web.json_response({"version": self.version})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        if not self.metrics:
            return web.Response(status=404)
        gauges = {
            "num_requests_running": self.running,
            "num_requests_waiting": self.waiting,
            "kv_cache_usage_perc": 0.1,
        }
        lines = [f'vllm:{name}{{engine="0"}} {float(value)}' for name, value in gauges.items()]
        return web.Response(text="\n".join(lines) + "\n")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests += 1
        number = self.requests
        for fault in self.faults:
            answer = await fault(request, body, number)
            if answer is not None:
                return answer
        if self.keep_asked or self.log:
            digest = hashlib.sha256(body).hexdigest()
            if self.keep_asked:
                self.asked.append(digest)
            if self.log:
                with self.log.open("a") as file:
                    file.write(digest + "\n")
        await self._take_time()
        return web.json_response(self.answer(body))

    async def _take_time(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running + self.waiting)
        try:
            delay = self.latency
            if self.capacity:
                now = time.monotonic()
                self._free_at = max(self._free_at, now) + 1.0 / self.capacity
                queued = self._free_at - now
                if queued > self.latency:
                    self.running -= 1
                    self.waiting += 1
                    try:
                        await asyncio.sleep(queued - self.latency)
                    finally:
                        self.waiting -= 1
                        self.running += 1
            if delay:
                await asyncio.sleep(delay)
        finally:
            self.running -= 1

    def answer(self, body: bytes) -> dict:
        text = self.text(body) if self.text else default_text(body)
        return {
            "id": "x",
            "object": "chat.completion",
            "model": self.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52},
        }


def default_text(body: bytes) -> str:
    """A caption drawn from the hash of the body."""
    digits = hashlib.sha256(body).digest()
    centre = f"{WORDS[digits[0] % 12]}, {WORDS[digits[1] % 12]}-{digits[4]}"
    return f"Center: {centre}; Surrounding: {PLACES[digits[2] % 12]}, {PLACES[digits[3] % 12]}-{digits[5]}"


@contextlib.contextmanager
def serving(server: FakeServer):
    """Run it in a thread on a free port; yields its base URL."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.2)

    async def start() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", server.port)
        await site.start()
        server.port = site._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{server.port}"

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    url = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--capacity", type=float, default=0.0)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    server = FakeServer(options.model, options.latency, options.capacity, log=options.log, keep_asked=False)
    web.run_app(server.app(), host="127.0.0.1", port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
