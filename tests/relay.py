"""A relay before a real server that can hold back what is posted, so that a test decides how long a run lasts."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Relay:
    """A way to a server.

    Attributes:
        url: to use instead of the server's own.
        open: while it is not set, requests that post something wait here; others pass.
        held: set as soon as one waits.
    """

    url: str
    open: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Hold back what is posted for as long as the block lasts."""
        self.held.clear()
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()


@contextmanager
def relaying(url: str) -> Iterator[Relay]:
    """A relay to ``url`` on loopback, open at first, for as long as the block lasts."""
    there = urlsplit(url)

    class Pass(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((there.hostname, there.port)) as server:
                ways = {self.request: server, server: self.request}
                while True:
                    for one in select.select(list(ways), [], [])[0]:
                        data = one.recv(1 << 16)
                        if not data:
                            return
                        if one is self.request and data.startswith(b"POST") and not relay.open.is_set():
                            relay.held.set()
                            relay.open.wait()
                        ways[one].sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            """One side hung up, as killed runs do."""

    with Server(("127.0.0.1", 0), Pass) as server:
        relay = Relay(f"http://127.0.0.1:{server.server_address[1]}{there.path}")
        relay.open.set()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield relay
        finally:
            server.shutdown()
            thread.join()
