"""Job: work in a process of its own, so that it can be watched, limited and killed."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.errors import VipError
from schemas.training import TrainFailure, TrainJob, TrainResult

J = TypeVar("J", bound=BaseModel)


def main(arguments: list[str] | None = None) -> None:
    """``python -m vip.diffusion.train --job job.json``; exits with 1 and one line on stderr where it fails."""
    run_in_process(TrainJob, run_job, arguments)


def run_in_process(kind: type[J], work: Callable[[J], Any], arguments: list[str] | None = None) -> None:
    """Read the job that the command line names and do it; exits with 1 and one line on stderr where that fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", required=True, type=Path, help=f"a {kind.__name__} as JSON")
    path = parser.parse_args(arguments).job
    try:
        work(read_job(path, kind))
    except VipError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


def read_job(path: Path, kind: type[J]) -> J:
    """Read a job.

    Raises:
        VipError: where it is none.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise VipError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise VipError(f"{path}: {where}: {first['msg']}") from error


def run_job(job: TrainJob) -> TrainResult:
    """Run a training here, writing its progress as JSON lines; the last line is the result, or why it failed."""
    try:
        return _train(job)
    except Exception as error:
        line = " ".join(str(error).split())
        told = line if isinstance(error, VipError) else f"{type(error).__name__}: {line}"
        append_line(job.progress, TrainFailure(failure=told[:1000], rank=_rank()))
        raise


def _train(job: TrainJob) -> TrainResult:
    from vip.diffusion.train import train

    result = train(
        job.config,
        job.base_dir,
        job.shards,
        Path(job.scratch),
        Path(job.out_dir),
        lambda progress: append_line(job.progress, progress),
    )
    if _rank() == 0:
        append_line(job.progress, result)
    return result


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def append_line(path: str | None, record: BaseModel) -> None:
    """Add a record to a file of JSON lines."""
    if path is None:
        return
    with Path(path).open("a") as file:
        file.write(record.model_dump_json() + "\n")
