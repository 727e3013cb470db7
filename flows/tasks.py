"""What every flow uses: tasks, the store of a run, and the folder of its logs."""

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import Task
from prefect import task as prefect_task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.run import scratch_folder
from storage.store import ArtifactStore

T = TypeVar("T")
P = ParamSpec("P")


def task(task_run_name: str) -> Callable[[Callable[P, T]], Task[P, T]]:
    """Prefect's ``task`` without its cache: the artifact store says what is done already.

    The cache would hash a path as a string, not the bytes behind it, would walk every sample of a plan, and writes a
    traceback to the run's page where an input cannot be hashed.
    """
    return prefect_task(task_run_name=task_run_name, cache_policy=NO_CACHE)


def open_store(root: str) -> ArtifactStore:
    """The artifact store at ``root``; what is published through it names the run as a whole, not the subflow."""
    return ArtifactStore(root, run_id=str(flow_run.root_flow_run_id or "manual"))


def log_folder(root: str) -> Path:
    """Where the running flow keeps the logs of the processes it starts."""
    return scratch_folder(root) / "logs" / str(flow_run.root_flow_run_id or "manual")
