"""A real S3 server process for tests: moto's, with faults on request.

``python tests/s3_server.py PORT`` serves on loopback until it is stopped. moto looks whether an object is there, then
writes it, which is no put-if-absent while several threads serve; the lock makes a request one step, as it is with S3.

Fault injection: ``POST /_fault`` with ``{"kind": ..., "verbs": ["GET", "LIST", "PUT", ...], "count": n}`` lets the next
n requests of these verbs fail: ``503`` (slow down), ``reset`` (half of the answer, then nothing), ``slow`` (two seconds
late), ``409`` (conditional conflict), ``403``, ``half`` (half of the answer as if it were all of it). ``POST /_storm``
with ``{"kinds": [...], "share": 0.1, "seed": 1}`` lets that share of all requests fail from now on, at random.
``GET /_counts`` tells how many requests of each verb were served.
"""

import contextlib
import io
import json
import os
import random
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

KEY, SECRET = "AKIATESTTESTTESTTEST", "sEcReTsEcReTsEcReTsEcReTsEcReT0123456789"


@dataclass
class S3Server:
    """The client's side of a running server."""

    endpoint: str
    environment: dict[str, str] = field(default_factory=dict)

    def bucket(self, name: str) -> str:
        """Make a bucket; returns its URL."""
        import botocore.session

        client = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def fault(self, kind: str, verbs: list[str], count: int) -> None:
        """Let the next ``count`` requests of ``verbs`` fail."""
        body = json.dumps({"kind": kind, "verbs": verbs, "count": count}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/_fault", body, method="POST"), timeout=10)

    def storm(self, kinds: list[str], share: float, seed: int) -> None:
        """Let that share of all requests fail from now on, each in one of these ways."""
        body = json.dumps({"kinds": kinds, "share": share, "seed": seed}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/_storm", body, method="POST"), timeout=10)

    @contextlib.contextmanager
    def here(self):
        """The environment of this process points at the server for the length of the block."""
        from s3fs import S3FileSystem

        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        # fsspec hands out the file system of an earlier server as long as the options are the same.
        S3FileSystem.clear_instance_cache()
        try:
            yield self
        finally:
            S3FileSystem.clear_instance_cache()
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def counts(self) -> Counter:
        """Requests served so far, by verb."""
        with urllib.request.urlopen(f"{self.endpoint}/_counts", timeout=10) as answer:
            return Counter(json.load(answer))


@contextlib.contextmanager
def s3_server(folder, in_environment=True):
    """A server for the length of the block; the environment of this process points at it meanwhile if wanted."""
    from vip.processes import OwnedProcess, free_port, wait_until

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
    }

    def ready():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    with OwnedProcess([sys.executable, __file__, str(port)], folder / "s3.log") as process:
        assert wait_until(ready, process, 60), process.last_lines()
        server = S3Server(endpoint, environment)
        with server.here() if in_environment else contextlib.nullcontext():
            yield server


class _OneStep:
    """WSGI middleware: one request at a time, and faults."""

    def __init__(self, application) -> None:
        self._application, self._lock = application, threading.Lock()
        self._faults, self._counts = [], Counter()
        self._storm, self._dice = {"kinds": [], "share": 0.0}, random.Random()

    def __call__(self, environ, start):
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/_fault":
            self._faults.append(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
            start("204 No Content", [])
            return []
        if path == "/_storm":
            self._storm = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            self._dice = random.Random(self._storm["seed"])
            start("204 No Content", [])
            return []
        if path == "/_counts":
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._counts).encode()]
        verb = "LIST" if method == "GET" and "list-type" in environ.get("QUERY_STRING", "") else method
        chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "")
        body = environ["wsgi.input"].read(*([] if chunked else [int(environ.get("CONTENT_LENGTH") or 0)]))
        fault = self._fault(verb)
        if fault in _REFUSALS:
            status, code = _REFUSALS[fault]
            start(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>fault injection</Message></Error>".encode()]
        if fault == "slow":
            time.sleep(2)
        with self._lock:
            self._counts[verb] += 1
            environ["wsgi.input"] = io.BytesIO(body)
            if fault not in ("reset", "half"):
                return list(self._application(environ, start))
            said = {}
            answer = b"".join(self._application(environ, lambda *words: said.update(words=words)))
        status, headers = said["words"][:2]
        half = answer[: len(answer) // 2]
        announced = len(half) if fault == "half" else max(1, len(answer))
        others = [header for header in headers if header[0].lower() != "content-length"]
        start(status, [*others, ("Content-Length", str(announced))])
        return [half]

    def _fault(self, verb):
        for fault in self._faults:
            if verb in fault["verbs"] and fault["count"] > 0:
                fault["count"] -= 1
                return fault["kind"]
        with self._lock:
            struck = self._dice.random() < self._storm["share"]
            return self._dice.choice(self._storm["kinds"]) if struck and self._storm["kinds"] else None


_REFUSALS = {
    "503": ("503 Service Unavailable", "SlowDown"),
    "409": ("409 Conflict", "ConditionalRequestConflict"),
    "403": ("403 Forbidden", "AccessDenied"),
}


def main() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = _OneStep(DomainDispatcherApplication(create_backend_app))
    make_server("127.0.0.1", int(sys.argv[1]), application, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
