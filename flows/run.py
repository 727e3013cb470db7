"""One run of a flow from the command line: its id, its folders, its Prefect server."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from flows.console import console
from storage import scratch
from storage.backend import Backend


def scratch_folder(root: str) -> Path:
    """A local folder for what is no artifact: journals, training states, logs; see :mod:`storage.scratch`."""
    return scratch.scratch_folder(Backend(root))


def drawn_folder(root: str, name: str) -> Path:
    """Where scenes drawn for a run lie: in the root where that is a local folder, else in scratch."""
    backend = Backend(root)
    return (Path(backend.root) if backend.is_local else scratch_folder(root)) / name


def prefect_home(root: str) -> Path:
    """Where the local Prefect server of a root keeps its database."""
    return scratch_folder(root) / "prefect"


@contextlib.contextmanager
def local_run(root: str) -> Iterator[None]:
    """A Prefect server for the flows of a command, unless one is configured, for as long as the block lasts."""
    logs = scratch_folder(root) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"prefect-{datetime.now(UTC):%Y%m%dT%H%M%S}.log"
    from flows.server import prefect_server

    with prefect_server(prefect_home(root), log) as url:
        console.say(f"Prefect's page: {url.removesuffix('/api')} while this runs, later `vip ui`")
        yield
