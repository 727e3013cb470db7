"""Interruptible: an asyncio loop that SIGTERM leaves as cleanly as Ctrl-C does."""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, where SIGTERM cancels ``work`` and is raised again behind the loop.

    Whoever handles SIGTERM (the command line, Prefect) raises an exception. Raised inside a callback of the loop,
    asyncio would log and swallow it, and the run would go on.
    """
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)
    terminated = False

    async def until_terminated() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel() -> None:
            nonlocal terminated
            terminated = True
            if task is not None:
                task.cancel()

        loop.add_signal_handler(signal.SIGTERM, cancel)
        return await work

    before = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(until_terminated())
    finally:
        signal.signal(signal.SIGTERM, before)
        if terminated:
            signal.raise_signal(signal.SIGTERM)
