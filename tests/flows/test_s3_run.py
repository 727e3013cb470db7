"""The whole run with its root in a bucket of a real S3 server: artifacts as on a local disk, and no secret anywhere."""

import contextlib
import os
from pathlib import Path
from typing import get_args

import pytest
from s3_server import KEY, SECRET

from schemas.manifest import Kind
from storage.store import ArtifactStore
from tests.flows._command import vip

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

# A page tells its run, so that two runs have two; everything else is a function of its inputs.
RANDOM = {"report"}


def everything(root):
    """(kind, key) -> digest of all that a root holds."""
    store = ArtifactStore(str(root))
    return {(kind, made.key): made.digest for kind in get_args(Kind) for made in store.list(kind)}


def run(root, images, endpoint):
    from flows.demo import demo_config
    from flows.retrain import retrain

    config = demo_config(str(images), "demo", 2, endpoints=(endpoint,))
    exam = config.evaluate.model_copy(update={"settings": ("oracle", "centre_only"), "images": 6, "steps": 3})
    return retrain(str(root), config.model_copy(update={"evaluate": exam}))


@pytest.fixture(scope="module")
def made(s3, engine, tmp_path_factory):
    """The same run three times: on local disk, in a bucket, and there again."""
    from flows.server import prefect_server
    from vip.nano.dataset import write_scenes

    folder = tmp_path_factory.mktemp("runs")
    images = folder / "images"
    write_scenes(images, 40)
    local, bucket = folder / "local", s3.bucket("whole-run") + "/deep/root"
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for name in list(os.environ):
            if name.startswith("PREFECT_"):
                patch.delenv(name)
        patch.setenv("VIP_SCRATCH", str(folder / "scratch"))
        patch.setenv("TMPDIR", str(folder))
        stack.enter_context(prefect_server(folder / "prefect", folder / "prefect.log"))
        runs = [run(root, images, engine.endpoint) for root in (local, bucket, bucket)]
        yield local, bucket, images, folder, runs


def test_a_bucket_gets_the_artifacts_that_a_disk_gets(made):
    local, bucket = everything(made[0]), everything(made[1])
    kinds = {kind for kind, _ in bucket}
    assert kinds >= {"shard", "dataset", "captions", "caption_set", "gate", "checkpoint", "samples", "evaluation"}
    assert {name: digest for name, digest in bucket.items() if name[0] not in RANDOM} == {
        name: digest for name, digest in local.items() if name[0] not in RANDOM
    }
    assert [kind for kind, _ in bucket].count("report") == 2  # one page a run


def test_the_second_run_in_a_bucket_reuses_everything(made):
    first, second = made[4][1:]
    assert first.requests and first.steps == 2
    assert second.requests == 0 and second.steps == 0
    assert not any(one.made for one in second.summary.stages)


def test_nothing_of_a_bucket_lies_on_local_disk_but_scratch(made):
    folder = made[3]
    left = {path.name for path in folder.iterdir() if not path.name.startswith("torchinductor_")}  # torch's own cache
    assert left <= {"images", "local", "scratch", "prefect", "prefect.log"}


def test_no_secret_is_in_any_object_log_database_or_page(made):
    _, bucket, _, folder, _ = made
    backend = ArtifactStore(bucket).backend
    objects = {path: backend.get(path) for path in backend.list("")}
    files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any("prefect.db" in path for path in files) and any(path.startswith("artifacts/report/") for path in objects)
    for path, data in {**objects, **files}.items():
        assert SECRET.encode() not in data and KEY.encode() not in data, path


def test_commands_work_on_a_bucket_and_forgetting_takes_the_copies_of_this_machine_too(made, monkeypatch):
    _, bucket, images, folder, _ = made
    monkeypatch.setenv("VIP_SCRATCH", str(folder / "scratch"))
    vip("audit", "verify", root=bucket)
    store = ArtifactStore(bucket)
    shards = list(store.list("shard"))
    for shard in shards:
        assert (store.local(shard) / "samples.tar").is_file()
    image = sorted(images.iterdir())[0]
    data = image.read_bytes()
    vip("forget", str(image), "--reason", "asked to", root=bucket)
    held = [path for path in store.backend.list("artifacts") if data in store.backend.get(path)]
    held += [path for path in Path(folder / "scratch").rglob("*") if path.is_file() and data in path.read_bytes()]
    assert held == []
