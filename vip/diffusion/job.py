"""Job: work in a process of its own, so that it can be watched, limited and killed."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.errors import VipError

J = TypeVar("J", bound=BaseModel)


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


def append_line(path: str | None, record: BaseModel) -> None:
    """Add a record to a file of JSON lines."""
    if path is None:
        return
    with Path(path).open("a") as file:
        file.write(record.model_dump_json() + "\n")
