"""Threads, Dask and Ray carry out the same tasks with the same results; a lost worker costs its shard, not the run."""

import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack

import pytest
import torch
import yaml
from click.testing import CliRunner
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.caption import Server, _asked
from flows.run import local_run
from flows.runners import task_runner
from schemas.budget import Budget
from schemas.endpoints import Endpoints
from schemas.errors import VipError
from schemas.evaluate_config import EvaluateConfig
from schemas.retrain_config import CaptionConfig
from schemas.runner import Runner, parse_runner
from schemas.sharding import ShardSettings
from storage.store import ArtifactStore
from tests.fake_openai import FakeServer, serving
from tests.vip.captioning.helpers import BANK, QUICK, make_dataset, make_spec, make_tokenizer, write_images
from tests.vip.evaluation.world import make_world
from vip.captioning.ask import ask
from vip.captioning.ask_stats import AskStats
from vip.captioning.plan import plan_captions
from vip.processes import OwnedProcess, free_port

IMAGES = 240


def test_slices_are_at_most_as_many_as_tasks_and_one_shard_each_where_they_are_few():
    items = list(range(2500))
    slices = Runner(tasks=1000).slices(items)
    assert [item for one in slices for item in one] == items
    assert len(slices) == 834 and {len(one) for one in slices[:-1]} == {3}
    assert Runner().slices(items[:7]) == [(item,) for item in items[:7]] and Runner().slices([]) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("dask,workers", "'workers' is no setting; write it as in dask,workers=4"),
        ("spark", "kind: Input should be 'threads', 'dask' or 'ray'"),
        ("dask,worker=4", "worker is no known setting"),
        ("threads,address=tcp://10.0.0.7:8786", "threads have no address"),
        ("ray,workers=0", "workers: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_runner_is_told_in_one_line(given, said):
    from flows.cli.main import group

    done = CliRunner().invoke(group, ["shard", "x", "--name", "n", "--runner", given])
    assert done.exit_code == 1 and said in done.output and done.output.count("\n") == 1


def test_threads_need_neither_dask_nor_ray(monkeypatch):
    assert parse_runner("dask,workers=4") == {"kind": "dask", "workers": "4"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    task_runner(Runner())
    with pytest.raises(VipError, match=r"runner ray is not installed; pip install 'vip-outpaint\[ray\]'"):
        task_runner(Runner(kind="ray"))


def test_an_error_keeps_its_two_parts_on_the_way_from_another_process():
    import pickle

    again = pickle.loads(pickle.dumps(VipError("what", "remedy")))
    assert (again.reason, again.remedy, str(again)) == ("what", "remedy", "what; remedy")


class World:
    """One source of images and one spec, run through shard and caption on a runner."""

    def __init__(self, folder):
        self.folder = folder
        write_images(folder / "images", IMAGES)
        tokenizer = make_tokenizer(folder / "tokenizer")
        spec = make_spec(tokenizer).model_dump(mode="json", exclude_none=True)
        self.spec = str(folder / "spec.yaml")
        (folder / "spec.yaml").write_text(yaml.safe_dump({**spec, "tokenizer": str(tokenizer)}))

    def shard(self, root, runner):
        from flows.shard import shard

        return shard(str(root), str(self.folder / "images"), ShardSettings(name="small", bits=4), runner)

    def caption(self, root, dataset, url, runner):
        from flows.caption import caption

        config = CaptionConfig(spec=self.spec, endpoints=(url,))
        return caption(str(root), dataset, BANK, config, (self.spec,), runner=runner)[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runners")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_API")]:
            patch.delenv(name)
        # Prefect is imported already, and has looked for its settings once and for all.
        with local_run(str(folder / "server")), temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}):
            yield World(folder)


@pytest.fixture(scope="module")
def by_threads(world):
    """Dataset and captions of an undisturbed run in threads."""
    with serving(FakeServer()) as url:
        dataset = world.shard(world.folder / "threads", Runner())
        return dataset, world.caption(world.folder / "threads", dataset, url, Runner())


@pytest.fixture
def dask(world, tmp_path):
    """A Dask cluster of processes: the address of its scheduler, and its two workers."""
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
    worker += ["--no-dashboard", "--local-directory", str(tmp_path)]
    # As many as here, where another test may have set them: with another number of threads kernels round otherwise.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with ExitStack() as stack:
        stack.enter_context(OwnedProcess(scheduler, tmp_path / "scheduler.log"))
        started = [OwnedProcess(worker, tmp_path / f"worker-{n}.log", environment) for n in range(2)]
        workers = [stack.enter_context(one) for one in started]
        yield address, workers


def _command_of(process):
    """The process id of the command that a supervisor runs."""
    import psutil

    (child,) = psutil.Process(process.pid).children()
    return child.pid


@pytest.mark.slow
def test_a_dask_worker_killed_in_the_middle_loses_nothing(world, by_threads, dask, tmp_path):
    address, workers = dask
    runner = Runner(kind="dask", workers=2, address=address)
    dataset = world.shard(tmp_path / "root", runner)
    assert dataset == by_threads[0]
    server = FakeServer(latency=1.0)
    victims = []

    async def kill(_request, _body, number):
        if number == IMAGES // 2:
            victims.append(_command_of(workers[0]))
            os.kill(victims[0], signal.SIGKILL)

    server.faults.append(kill)
    with serving(server) as url:
        done = world.caption(tmp_path / "root", dataset, url, runner)
    assert victims and workers[0].poll() == 128 + signal.SIGKILL and workers[1].poll() is None
    assert done.caption_set == by_threads[1].caption_set  # the digest: byte for byte
    assert done.captions + done.rejected == IMAGES == len(set(server.asked))


@pytest.mark.slow
def test_a_task_that_kills_every_worker_ends_the_run_with_one_line(world, tmp_path):
    import dask
    from prefect import flow, task

    from flows.runners import working

    @task
    def deadly(item):
        os.kill(os.getpid(), signal.SIGKILL)

    @flow
    def doomed():
        with working(Runner(kind="dask", workers=2)) as pool:
            return list(pool.each(deadly, [1]))

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        pytest.raises(VipError, match=r"task deadly was given up, because the workers that took it died"),
    ):
        doomed()


@pytest.mark.slow
def test_no_more_task_runs_are_alive_than_a_wave(world):
    from prefect import flow, task

    from flows.runners import working

    alive, most = [], []

    @task
    def one(item):
        time.sleep(0.01)
        return item

    @flow
    def many():
        def items():
            for number in range(60):
                alive.append(number)
                most.append(len(alive))
                yield number

        with working(Runner(workers=4, wave=8)) as pool:
            for number in pool.each(one, items()):
                alive.remove(number)

    many()
    assert max(most) == 8 and not alive


def _completed(name):
    """How many task runs of that beginning Prefect knows as completed; it hears of the last ones a moment later."""
    import httpx

    wanted = {"name": {"like_": name}, "state": {"type": {"any_": ["COMPLETED"]}}}
    time.sleep(5)
    url = f"{os.environ['PREFECT_API_URL']}/task_runs/count"
    return httpx.post(url, json={"task_runs": wanted}, timeout=60).json()


@pytest.mark.slow
def test_dask_workers_make_the_pictures_and_features_that_threads_make(world, dask, tmp_path):
    from flows.evaluate import evaluate

    store = ArtifactStore(tmp_path / "threads")
    dataset, prompts, checkpoint = make_world(store, tmp_path / "pictures")
    shutil.copytree(tmp_path / "threads", tmp_path / "dask")
    config = EvaluateConfig(settings=("oracle", "centre_only"), steps=2, images=6, resamples=100, unpasted=True)
    refs = {name: made.ref for name, made in prompts.items()}

    def examined(root, runner):
        return evaluate(str(tmp_path / root), checkpoint.ref, dataset.ref, refs, config, runner)

    by_threads = examined("threads", Runner())
    assert _completed("exam-%") == 0
    assert examined("dask", Runner(kind="dask", workers=2, address=dask[0])) == by_threads  # digests and all inputs
    assert _completed("exam-%") == 3  # two settings and the real pictures


@pytest.mark.slow
def test_verify_by_dask_counts_and_finds_what_threads_do(world, by_threads, dask, tmp_path):
    from flows.verify import verify

    root = tmp_path / "root"
    shutil.copytree(world.folder / "threads", root)
    runner = Runner(kind="dask", workers=2, address=dask[0], tasks=8)
    files = verify(str(root))
    assert files > 50 and _completed("hash-%") == 0
    assert verify(str(root), runner) == files and 4 < _completed("hash-%") <= 8
    damaged, gone = sorted(root.glob("artifacts/shard/*/*/samples.parquet"))[:2]
    damaged.chmod(0o644)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    gone.unlink()
    said = []
    for one in (Runner(), runner):
        with pytest.raises(VipError) as caught:
            verify(str(root), one)
        said.append(str(caught.value))
    assert said[0] == said[1] and said[0].startswith("2 problems in ")


@pytest.mark.soak
def test_a_ray_worker_killed_in_the_middle_loses_nothing(world, by_threads, tmp_path):
    """On a Ray cluster of this host, which each of the two flows starts and ends."""
    import psutil

    runner = Runner(kind="ray", workers=2)
    dataset = world.shard(tmp_path / "root", runner)
    assert dataset == by_threads[0]
    server = FakeServer(latency=1.0)
    victims, others = [], []

    async def kill(_request, _body, number):
        if number == IMAGES // 2:
            family = psutil.Process().children(recursive=True)
            victim, *rest = (one for one in family if _is_busy_ray_worker(one))
            victims.append(victim)
            others.extend(rest)
            victim.send_signal(signal.SIGKILL)

    server.faults.append(kill)
    with serving(server) as url:
        done = world.caption(tmp_path / "root", dataset, url, runner)
    assert len(victims) == 1 == len(others)  # both were at work
    assert done.caption_set == by_threads[1].caption_set  # the digest: byte for byte
    assert done.captions + done.rejected == IMAGES == len(set(server.asked))


def _is_busy_ray_worker(process):
    title = "".join(process.cmdline()[:1])
    return title.startswith("ray::") and not any(
        other in title for other in ("Agent", "IDLE")
    )  # Ray's own, and idle ones


class Queue:
    """A cluster whose workers come one after the other."""

    runner = Runner(kind="dask", workers=2)

    def __init__(self, scratch):
        self.scratch = scratch

    def each(self, _, parts, root, one, server, wave):
        for part in parts:
            yield ask(ArtifactStore(root), one, server.endpoints, self.scratch, settings=QUICK, budget=part.budget)


def test_a_worker_that_spends_its_share_ends_no_run_whose_rest_another_asks(tmp_path):
    store, spec = ArtifactStore(tmp_path / "root"), make_spec(make_tokenizer(tmp_path / "tokenizer"))
    dataset = make_dataset(store, write_images(tmp_path / "images", 24))

    def run(requests, spent=0):
        one = plan_captions(store, dataset, spec, BANK)
        asked = AskStats(requests=spent)
        budget = Budget(requests=requests)
        return _asked(str(tmp_path / "root"), dataset.ref, one, server, budget, asked, Queue(tmp_path / "scratch"))

    with serving(FakeServer()) as url:
        server = Server(Endpoints(urls=(url,)))
        with pytest.raises(VipError, match=r"the budget of 5 requests is spent, about 24 requests are left"):
            run(5, spent=5)
        with pytest.raises(VipError, match=r"the budget of 6 requests is spent, about 18 requests are left"):
            run(6)
        assert run(26).requests == 18  # 13 by the first, which stops there, and 5 by the second


@pytest.mark.slow
def test_each_model_is_asked_of_an_engine_of_its_own(world, by_threads, tmp_path, monkeypatch):
    from flows import caption as flow

    alive = []

    class Engine:
        log = "vllm.log"

        def __init__(self, spec, *_):
            self.server = FakeServer(spec.model.id)

        def check(self):
            pass

        def __enter__(self):
            self.served = serving(self.server)
            self.endpoint = self.served.__enter__()
            assert not [one for one in alive if one.served]  # one after the other
            alive.append(self)

        def __exit__(self, *_):
            self.served.__exit__(*_)
            self.served = None

    monkeypatch.setattr(flow, "engine_for", Engine)
    written = yaml.safe_load((world.folder / "spec.yaml").read_text())
    specs = []
    for name in ("one", "other"):
        specs.append(str(tmp_path / f"{name}.yaml"))
        values = {**written, "name": name, "model": {**written["model"], "id": name}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    config = CaptionConfig(spec=specs[0], imagined=specs[1])
    done = flow.caption(str(world.folder / "threads"), by_threads[0], BANK, config, tuple(specs))
    assert [one.asked.requests for one in done] == [IMAGES, IMAGES]
    assert [(one.server.model, one.server.requests) for one in alive] == [("one", IMAGES), ("other", IMAGES)]
