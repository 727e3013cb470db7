"""Child: a stage in a process of its own, so that its memory and its crashes are not the run's; watched as it works."""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from schemas.errors import VipError
from vip.processes import OwnedProcess, last_lines

_LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class Launch:
    """How a job is started where one process is not enough.

    Attributes:
        command: file with the job -> what to start.
        environment: of the processes; ours where None.
        folder: where the file with the job is to lie; beside the lines where None.
        why: (log, exit code) -> why it failed, in one line.
    """

    command: Callable[[Path], list[str]]
    environment: Mapping[str, str] | None = None
    folder: Path | None = None
    why: Callable[[Path, int], str] = lambda log, code: f"exit code {code}: {last_lines(log, 3)}"


def run_child(
    module: str,
    job: BaseModel,
    lines: Path,
    log: Path,
    on_line: Callable[[bytes], None],
    launch: Launch | None = None,
) -> None:
    """Run ``python -m module --job JOB`` in its own process group and pass on each line that it appends to ``lines``.

    Raises:
        VipError: with exit code and reason, where it fails.
    """
    launch = launch or Launch(lambda file: [sys.executable, "-m", module, "--job", str(file)])
    folder = launch.folder or lines.parent
    folder.mkdir(parents=True, exist_ok=True)
    read = 0

    def follow() -> None:
        nonlocal read
        if not lines.exists():
            return
        with lines.open("rb") as file:
            file.seek(read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                read += len(line)
                on_line(line)

    try:
        with tempfile.NamedTemporaryFile("w", prefix="job-", suffix=".json", dir=folder) as file:
            file.write(job.model_dump_json())
            file.flush()
            with OwnedProcess(launch.command(Path(file.name)), log, launch.environment) as child:
                while (code := child.poll()) is None:
                    time.sleep(_LOOK_SECONDS)
                    follow()
                follow()
    finally:
        lines.unlink(missing_ok=True)  # by a signal, too
    if code:
        raise VipError(f"{module} ended with {launch.why(log, code)}", f"see {log}")
