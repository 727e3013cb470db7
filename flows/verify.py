"""Verify: re-hash everything in a root, on a schedule."""

import contextlib
from dataclasses import asdict

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.alarm import raise_alarm
from flows.progress import reporting
from flows.runners import working
from flows.tasks import task
from schemas.errors import VipError
from schemas.runner import THREADS, Runner
from storage.backend import Backend
from vip.lineage.findings import hash_file
from vip.lineage.verify import verify as verify_root


@task(task_run_name="hash-{paths[0]}")
def hash_files(paths: tuple[str, ...], root: str) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of some files; one that is gone by now is left to who follows the links."""
    backend, found = Backend(root), {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found[path] = hash_file(backend, path)
    return found


@flow(name="verify", on_failure=[raise_alarm], on_crashed=[raise_alarm])
def verify(root: str, runner: Runner = THREADS) -> int:
    """Re-hash every file, on the workers of a cluster where there is one; follow every link here.

    Returns:
        The number of files hashed.

    Raises:
        VipError: where anything is not as published; the problems stand in a table on Prefect's page.
    """
    with reporting() as progress:
        found = verify_root(Backend(root), progress, _hashed(root, runner) if runner.spread else None)
    if not found.ok:
        create_table_artifact(key="problems", table=[asdict(one) for one in found.problems], description="Verify")
        raise VipError(
            f"{len(found.problems)} problems in {root}, the first in {found.problems[0].file}", "run `vip audit verify`"
        )
    return found.files


def _hashed(root: str, runner: Runner) -> dict[str, tuple[int, str]]:
    """Every file of the artifacts and of the answers, read by the workers."""
    backend, found = Backend(root), dict[str, tuple[int, str]]()
    paths = [path for folder in ("artifacts", "answers") for path in backend.list(folder)]
    with working(runner) as pool:
        for part in pool.each(hash_files, runner.slices(paths), root):
            found |= part
    return found
