"""Child: a stage in a process of its own, so that its memory and its crashes are not the run's; watched as it works."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from schemas.errors import VipError
from vip.processes import OwnedProcess

_LOOK_SECONDS = 0.3


def run_child(module: str, job: BaseModel, lines: Path, log: Path, on_line: Callable[[bytes], None]) -> None:
    """Run ``python -m module --job JOB`` in its own process group and pass on each line that it appends to ``lines``.

    Raises:
        VipError: with the last lines of its log, where it fails.
    """
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
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=lines.parent) as file:
            file.write(job.model_dump_json())
            file.flush()
            with OwnedProcess([sys.executable, "-m", module, "--job", file.name], log) as child:
                while (code := child.poll()) is None:
                    time.sleep(_LOOK_SECONDS)
                    follow()
                follow()
                said = child.last_lines(3)
    finally:
        lines.unlink(missing_ok=True)  # by a signal, too
    if code:
        raise VipError(f"{module} ended with exit code {code}: {said}", f"see {log}")
