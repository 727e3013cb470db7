"""Several training processes under one flow: how they are started, how they end, and what is said of it."""

import os
import signal
import sys

import psutil
import pytest
from pydantic import ValidationError

from flows.train import _run
from schemas.errors import VipError
from schemas.train_config import TrainConfig
from schemas.training import TrainJob
from tests.vip.diffusion.data import VIEW, write_base, write_shards
from vip.diffusion import launch


def test_one_process_needs_no_launcher_and_keeps_its_key(tmp_path):
    alone = TrainConfig()
    assert launch.command(alone, tmp_path / "job.json", "run")[:3] == [sys.executable, "-m", "vip.diffusion.train"]
    assert "processes" not in alone.params()
    two = TrainConfig(processes=2)
    assert two.params()["processes"] == 2 and two.state_key() != alone.state_key()


def test_on_several_hosts_the_same_command_is_started_everywhere(tmp_path):
    there = TrainConfig(processes=8, hosts=2, rendezvous="10.0.0.7:29400")
    command = launch.command(there, tmp_path / "job.json", "run")
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=10.0.0.7:29400", "--rdzv-id=run"} <= set(command)
    # Where the processes are is no part of what comes out.
    assert there.params() == TrainConfig(processes=8).params()
    with pytest.raises(ValidationError, match="several hosts need a rendezvous"):
        TrainConfig(processes=2, hosts=2)
    with pytest.raises(ValidationError, match="3 processes cannot be shared evenly by 2 hosts"):
        TrainConfig(processes=3, hosts=2, rendezvous="a:1")


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    base, shards = write_base(tmp_path / "base"), write_shards(tmp_path / "shards")
    made = TrainConfig(view=VIEW, batch=2, steps=500, log_every=1, processes=2, checkpoint_every=1000)
    folders = {"scratch": str(tmp_path / "states"), "out_dir": str(tmp_path / "out")}
    return TrainJob(config=made, base_dir=str(base), shards=shards, progress=str(tmp_path / "progress"), **folders)


def _trainers(job):
    """Every process of the job but the supervisor and torchrun, by its rank."""
    found = {}
    for one in psutil.Process().children(recursive=True):
        if "vip.diffusion.train" in one.cmdline() and "RANK" in (environment := one.environ()):
            found[int(environment["RANK"])] = one
    return found


@pytest.mark.slow
def test_of_a_process_that_is_killed_the_rank_and_the_signal_are_told_and_nothing_is_left(tmp_path, job):
    seen = {}

    def progress(what, done, total, detail):
        if done >= 2 and not seen:
            seen.update(_trainers(job))
            os.kill(seen[1].pid, signal.SIGKILL)

    with pytest.raises(VipError, match=r"vip.diffusion.train ended with exit code 1, process 1 by signal 9: "):
        _run(job, tmp_path / "log", progress)
    assert set(seen) == {0, 1} and not any(one.is_running() for one in seen.values())


@pytest.mark.slow
def test_a_cancelled_training_leaves_no_process(tmp_path, job):
    seen = {}

    class Cancelled(BaseException):
        pass

    def progress(what, done, total, detail):
        seen.update(_trainers(job))
        raise Cancelled

    with pytest.raises(Cancelled):
        _run(job, tmp_path / "log", progress)
    assert set(seen) == {0, 1} and not any(one.is_running() for one in seen.values())


@pytest.mark.slow
def test_what_a_process_says_before_it_fails_is_the_error(tmp_path, job):
    broken = job.model_copy(update={"base_dir": str(tmp_path / "nothing")})
    with pytest.raises(
        VipError, match=r"vip.diffusion.train ended with exit code 1, process \d with exit code 1: .*nothing"
    ):
        _run(broken, tmp_path / "log", lambda *_: None)
