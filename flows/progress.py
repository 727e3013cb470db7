"""Progress of a stage: to the console of the run and to Prefect's page."""

import contextlib
import contextvars
import threading
import time
from collections.abc import Iterator
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext

from flows.console import console, time_left

_POST_SECONDS = 2.0


class Progress:
    """Called by a stage as ``progress(what, done, total, detail)``, from any thread, as often as it likes.

    Prefect hears of it from a thread of its own, every two seconds, so that a slow server never slows the work.
    """

    def __init__(self, console_too: bool = True) -> None:
        self._console_too = console_too
        self._began: dict[str, float] = {}
        self._state: tuple[str, int, int, str] | None = None
        self._over = threading.Event()

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Take note of where the stage stands."""
        now = time.monotonic()
        left = time_left(done, total, now - self._began.setdefault(what, now))
        self._state = (what, done, total, f"{left}, {detail}" if detail else left)
        if self._console_too:
            console.progress(what, done, total, detail)

    def post(self) -> None:
        """Send the latest state to Prefect until the stage is over; a server that takes no more of it stops nothing."""
        with contextlib.suppress(Exception):
            self._post()

    def _post(self) -> None:
        artifact: UUID | None = None
        sent = None
        while True:
            over = self._over.wait(_POST_SECONDS)
            state = self._state
            if state is not None and state != sent:
                what, done, total, detail = state
                share, text = 100.0 * done / max(total, 1), f"{what}: {done:,} of {total:,}{detail}"
                if artifact is None:
                    artifact = cast(UUID, create_progress_artifact(progress=share, description=text))
                else:
                    update_progress_artifact(artifact, progress=share, description=text)
                sent = state
            if over:
                return

    def stop(self) -> None:
        """The stage is over."""
        self._over.set()


@contextlib.contextmanager
def reporting(console_too: bool = True) -> Iterator[Progress]:
    """The progress callback of the task or flow that is running.

    Args:
        console_too: also print it; False where several processes report side by side.
    """
    progress = Progress(console_too)
    if TaskRunContext.get() is None and FlowRunContext.get() is None:
        yield progress
        return
    # The thread needs the run's context, which tells Prefect whose artifact it is.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(progress.post,), daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        progress.stop()
        thread.join(timeout=10)
