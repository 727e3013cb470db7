"""Launch: the command that trains, in one process or in several on one or several hosts, and why it failed."""

import os
import re
import sys
from pathlib import Path

from schemas.train_config import TrainConfig
from vip.processes import last_lines

_TORCHRUN = re.compile(r"torch[./]distributed[./]|^\s*warnings\.warn|^W\d{4} |^E\d{4} |^=+$|^-+$|ChildFailedError")
_ENDED = re.compile(r"rank\s*: (\d+) .*\n\s*exitcode\s*: (-?\d+)")


def command(config: TrainConfig, job: Path, run: str) -> list[str]:
    """What is to be started on each host; on all of them it is the same.

    Args:
        job: file with the :class:`schemas.training.TrainJob`, which every host must be able to read.
        run: a name of the run, on which the hosts agree.
    """
    trainer = ["-m", "vip.diffusion.train", "--job", str(job)]
    if config.processes == 1:
        return [sys.executable, *trainer]
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={config.processes // config.hosts}"]
    if config.hosts == 1:
        return [*launcher, "--standalone", *trainer]
    meeting = [f"--nnodes={config.hosts}", "--rdzv-backend=c10d", f"--rdzv-endpoint={config.rendezvous}"]
    return [*launcher, *meeting, f"--rdzv-id={run}", *trainer]


def environment(config: TrainConfig) -> dict[str, str]:
    """Ours; without a GPU, accelerate has to be told that processes on CPUs are meant."""
    found = dict(os.environ)
    if config.processes > 1 and not _has_gpu():
        found["ACCELERATE_USE_CPU"] = "true"
    return found


def why_it_ended(log: Path, code: int | None, failure: str | None) -> str:
    """Exit code and reason in one line.

    Args:
        log: of all processes.
        code: of the command; 128 + n where signal n ended it.
        failure: what a process said before it ended, where it could.
    """
    text = log.read_text(errors="replace") if log.exists() else ""
    # torchrun's report comes last and says which process ended first, and how.
    ended = _ENDED.findall(text)
    told = f"exit code {code}"
    if ended:
        rank, exit_code = ended[-1][0], int(ended[-1][1])
        how = f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"
        told += f", process {rank} {how}"
    own = [line.strip() for line in text.splitlines() if line.strip() and not _TORCHRUN.search(line)]
    said = failure or (" | ".join(_before_the_report(own)[-3:]) if ended else last_lines(log, 3))
    return f"{told}: {said}" if said else told


def _before_the_report(lines: list[str]) -> list[str]:
    for place, line in enumerate(lines):
        if line.startswith(("Traceback (most recent call last)", "Root Cause", "Failures:")):
            later = "\n".join(lines[place:])
            if "elastic" in later or line.startswith(("Root", "Failures")):
                return lines[:place]
    return lines


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
