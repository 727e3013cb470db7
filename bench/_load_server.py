"""A stand-in server that costs almost nothing, so that a benchmark measures the client: one answer, a latency, a rate.

python -m bench._load_server PORT LATENCY CAPACITY
"""

import asyncio
import json
import sys

_ANSWER = {
    "model": "fake",
    "choices": [{"message": {"content": "Center: red wolf; Surrounding: snow, dusk"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 12},
}
_MODELS = b'{"data": [{"id": "fake"}]}'


def _response(body: bytes, kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Load:
    """How busy the server is, for all its connections."""

    answer = _response(json.dumps(_ANSWER).encode())

    def __init__(self, latency: float, capacity: float) -> None:
        self.latency, self.capacity = latency, capacity
        self.running = 0
        self.free_at = 0.0

    def metrics(self) -> bytes:
        """Running and waiting requests as vLLM tells them."""
        within = int(self.latency * self.capacity)
        running, waiting = min(self.running, within), max(0, self.running - within)
        text = f'vllm:num_requests_running{{e="0"}} {running}.0\nvllm:num_requests_waiting{{e="0"}} {waiting}.0\n'
        return _response(text.encode(), b"text/plain")


class Connection(asyncio.Protocol):
    """One connection; a client sends the next request only after the answer to the last."""

    def __init__(self, load: Load) -> None:
        self.load, self.loop = load, asyncio.get_running_loop()
        self.head, self.left, self.get = b"", 0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a body; nothing of it is read."""
        if self.left:
            self.left -= len(data)
        else:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.head[:end]
            size = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.left = int(size or 0) - (len(self.head) - end - 4)
            self.get, self.head = (head if head.startswith(b"GET") else b""), b""
        if self.left <= 0:
            self.left = 0
            self._answer()

    def _answer(self) -> None:
        if self.get:
            told = self.load.metrics() if b"/metrics" in self.get else _response(_MODELS)
            self.transport.write(told)
            return
        load, now = self.load, self.loop.time()
        load.free_at = max(load.free_at, now) + 1.0 / load.capacity
        load.running += 1
        self.loop.call_at(max(now + load.latency, load.free_at), self._send)

    def _send(self) -> None:
        self.load.running -= 1
        self.transport.write(self.load.answer)


async def serve(port: int, latency: float, capacity: float) -> None:
    """Serve until killed."""
    load = Load(latency, capacity)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(load), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
