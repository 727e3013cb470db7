"""Job: a training run in a process of its own, so that it can be watched, limited and killed."""

import argparse
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import VipError
from schemas.training import TrainJob, TrainProgress, TrainResult


def main(arguments: list[str] | None = None) -> None:
    """``python -m vip.diffusion.train --job job.json``; exits with 1 and one line on stderr where it fails."""
    parser = argparse.ArgumentParser(prog="python -m vip.diffusion.train")
    parser.add_argument("--job", required=True, type=Path, help="a TrainJob as JSON")
    path = parser.parse_args(arguments).job
    try:
        run_job(read_job(path))
    except VipError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


def read_job(path: Path) -> TrainJob:
    """Read a job.

    Raises:
        VipError: where it is none.
    """
    try:
        return TrainJob.model_validate_json(path.read_bytes())
    except OSError as error:
        raise VipError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise VipError(f"{path}: {where}: {first['msg']}") from error


def run_job(job: TrainJob) -> TrainResult:
    """Run a job here, writing its progress as JSON lines; the last line is the result."""
    from vip.diffusion.train import train

    result = train(
        job.config,
        job.base_dir,
        job.shards,
        Path(job.scratch),
        Path(job.out_dir),
        lambda progress: _append(job.progress, progress),
    )
    if int(os.environ.get("RANK", "0")) == 0:
        _append(job.progress, result)
    return result


def _append(path: str | None, record: TrainProgress | TrainResult) -> None:
    if path is None:
        return
    with Path(path).open("a") as file:
        file.write(record.model_dump_json() + "\n")
