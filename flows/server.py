"""The local Prefect server that a command starts when none is configured, and stops when it ends."""

import contextlib
import fcntl
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from schemas.errors import VipError
from vip.processes import OwnedProcess, free_port, wait_until

READY_SECONDS = 300

DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
"""Prefect's own setting: where a server keeps its runs. SQLite in its home where nothing is set."""

_OLD_NAME = "PREFECT_API_DATABASE_CONNECTION_URL"
_DATABASES = ("postgresql+asyncpg://", "sqlite+aiosqlite://")

# Telemetry off; no colour codes in log files; the console of the run stays calm, Prefect's page gets every line.
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_COLORS": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}


@contextlib.contextmanager
def prefect_server(home: Path, log: Path) -> Iterator[str]:
    """The API URL of a Prefect server, for as long as the block lasts.

    The one that is configured (``PREFECT_API_URL`` or the active profile) is used as it is. Otherwise one is
    started on loopback; where another run holds ``home``, the next one is taken. It keeps its runs in SQLite there,
    or in the database that the environment names, such as a PostgreSQL.

    Raises:
        VipError: where the server does not answer in time or dies, with the last lines of its log, or the database is
            of no kind that Prefect knows.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    configured = configured_url()
    if configured:
        with trouble_in_one_line(configured):
            yield configured
        return
    _check_database()
    lock = _take_home(home)
    place = Path(lock.name).parent
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, "PREFECT_HOME": str(place), "PREFECT_LOGGING_SERVER_LEVEL": "WARNING"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = OwnedProcess(command, log, environment)
    before = {name: os.environ.get(name) for name in ("PREFECT_API_URL", "PREFECT_HOME")}
    try:
        _wait_until_ready(server, url)
        os.environ.update(PREFECT_API_URL=url, PREFECT_HOME=str(place))
        _reread_settings()
        with trouble_in_one_line(url):
            yield url
    finally:
        _drain()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _reread_settings()
        server.stop()
        lock.close()


def _reread_settings() -> None:
    """Prefect reads the environment when it is imported; where it was before, it would ask for another server."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def _check_database() -> None:
    """Refuse a URL that Prefect would refuse, without repeating it as Prefect would: it holds a password."""
    url = os.environ.get(DATABASE) or os.environ.get(_OLD_NAME)
    if url and not url.startswith(_DATABASES):
        remedy = "write postgresql+asyncpg://user:password@host/name"
        raise VipError(f"the URL in {DATABASE} names no database that Prefect knows", remedy)


@contextlib.contextmanager
def trouble_in_one_line(url: str) -> Iterator[None]:
    """A server that is gone, or answers with errors, ends the run with one line; Prefect's client has tried before.

    Raises:
        VipError: for what Prefect's client raises; everything else passes.
    """
    try:
        yield
    except Exception as error:
        if not _is_prefects(error, url):
            raise
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise VipError(
            f"Prefect's server at {url} does not answer as it should ({said})",
            "what was done is kept; run again when it is well",
        ) from error


def _is_prefects(error: Exception, url: str) -> bool:
    """Whether the client of Prefect raised it: other libraries go by httpx too, to other places."""
    if "prefect" not in sys.modules:
        return False
    import httpx
    from prefect.exceptions import PrefectException

    if isinstance(error, httpx.HTTPError):
        with contextlib.suppress(RuntimeError):  # it does not know its request
            return str(error.request.url).startswith(url)
    unreachable = isinstance(error, RuntimeError) and str(error).startswith("Failed to reach API")
    return unreachable or isinstance(error, httpx.HTTPError | PrefectException)


def _drain() -> None:
    """Let Prefect send what it still holds: after the server is gone it would complain about it at exit."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=5)
    EventsWorker.drain_all(timeout=5)


def configured_url() -> str | None:
    """The API URL of the environment or of Prefect's active profile, or None."""
    if os.environ.get("PREFECT_API_URL"):
        return os.environ["PREFECT_API_URL"]
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    if not (home / "profiles.toml").exists():
        return None
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value()


def _take_home(home: Path) -> IO[str]:
    """Lock the first home that no other run holds: two servers on one SQLite file disturb each other."""
    number = 0
    while True:
        place = home if number == 0 else home.with_name(f"{home.name}-{number}")
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / "vip.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            lock.close()
            number += 1


def _wait_until_ready(server: OwnedProcess, url: str) -> None:
    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):  # noqa: S310 - loopback
                return True
        except OSError:
            return False

    if wait_until(healthy, server, READY_SECONDS):
        return
    if server.poll() is not None:
        raise VipError(f"Prefect's server ended with code {server.poll()}: {server.last_lines()}", f"see {server.log}")
    raise VipError(f"Prefect's server did not answer within {READY_SECONDS} s", f"see {server.log}")
