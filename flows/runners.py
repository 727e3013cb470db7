"""Runners: where the tasks of a flow run. Dask and Ray are imported by those who ask for them."""

import contextlib
import importlib.util
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

from prefect import Task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote
from prefect.utilities.callables import get_call_parameters

from schemas.errors import VipError
from schemas.runner import Runner

T = TypeVar("T")
_MODULE = {"dask": "prefect_dask", "ray": "prefect_ray"}


class _Sealed(quote):
    """Handed over as it is: Prefect does not search it for futures, which would walk every sample."""

    def __reduce__(self) -> tuple[type["_Sealed"], tuple[Any]]:
        """On the way to another process a plain ``quote`` would wrap its value twice."""
        return type(self), (self[0],)


def sealed(value: T) -> T:
    """``value`` for a task that is called, not submitted: Prefect hands it over without walking through it."""
    return cast(T, _Sealed(value))


class Pool:
    """Workers that are up, for as long as :func:`working` lasts."""

    def __init__(self, runner: Runner, started: TaskRunner[Any]) -> None:
        self.runner, self._started = runner, started

    def each(
        self,
        task: Task[..., T],
        items: Iterable[Any],
        *shared: Any,
        on_done: Callable[[int], None] | None = None,
        wave: int | None = None,
    ) -> Iterator[T]:
        """Run ``task(item, *shared)`` for every item, a bounded number at a time, results in the order of the items.

        A worker that dies costs what its tasks had not published: the cluster runs them again elsewhere.

        Args:
            items, shared: handed over as they are; futures in them are not resolved.
            on_done: called with the number of results so far.
            wave: task runs alive at once; that of the runner where None.

        Raises:
            VipError: where the cluster gave a task up because every worker that took it died.
        """
        rest, alive, done = iter(items), deque[Any](), 0
        while True:
            while len(alive) < (wave or self.runner.wave) and (item := next(rest, _NOTHING)) is not _NOTHING:
                values = tuple(_Sealed(value) for value in (item, *shared))
                alive.append(self._started.submit(task, get_call_parameters(task.fn, values, {})))
            if not alive:
                return
            result = _result(alive.popleft(), task.name)
            done += 1
            if on_done is not None:
                on_done(done)
            yield result


_NOTHING = object()


def _result(future: Any, name: str) -> Any:
    try:
        return future.result()
    except Exception as error:
        # Whatever a task raises arrives as it is; errors of the engines themselves are about their workers.
        engine = type(error).__module__.partition(".")[0]
        if engine in ("distributed", "ray"):
            why = " ".join(str(error).split())[:300]
            raise VipError(
                f"task {name} was given up, because the workers that took it died ({type(error).__name__}: {why})",
                "look for the cause in their logs (often memory); what was done is kept, run again to go on",
            ) from error
        raise


@contextlib.contextmanager
def working(runner: Runner) -> Iterator[Pool]:
    """The workers of a runner; a cluster of our own ends with the block.

    Raises:
        VipError: where the extra is not installed or no cluster answers.
    """
    with contextlib.ExitStack() as stack:
        chosen = task_runner(runner)
        try:
            started = stack.enter_context(chosen)
            if runner.kind == "dask":
                _ = chosen.client  # type: ignore[attr-defined] # it connects when it is first asked
        except (OSError, TimeoutError, ConnectionError, RuntimeError) as error:
            where = f"at {runner.address}" if runner.address else "on this host"
            raise VipError(
                f"no {runner.kind} cluster {where}: {' '.join(str(error).split())[:300]}", "check the runner's address"
            ) from error
        yield Pool(runner, started)


def task_runner(runner: Runner) -> TaskRunner[Any]:
    """Prefect's task runner for ``runner``, not yet started.

    Raises:
        VipError: where its extra is not installed.
    """
    if runner.kind == "threads":
        return ThreadPoolTaskRunner(max_workers=runner.workers)
    if importlib.util.find_spec(_MODULE[runner.kind]) is None:
        raise VipError(f"runner {runner.kind} is not installed", f"pip install 'vip-outpaint[{runner.kind}]'")
    return _dask(runner) if runner.kind == "dask" else _ray(runner)


def _dask(runner: Runner) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    if runner.address:
        return DaskTaskRunner(address=runner.address)
    # One thread a worker: what a task does in Python would not run beside another. Its page is for this host alone.
    cluster = {"n_workers": runner.workers, "threads_per_worker": 1, "processes": True}
    return DaskTaskRunner(cluster_kwargs={**cluster, "dashboard_address": "127.0.0.1:0", "silence_logs": "ERROR"})


def _ray(runner: Runner) -> TaskRunner[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner

    if runner.address:
        return RayTaskRunner(address=runner.address)
    return RayTaskRunner(init_kwargs={"num_cpus": runner.workers, "include_dashboard": False, "log_to_driver": False})
