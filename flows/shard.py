"""Shard: a source of images becomes a dataset, one task a shard, or a slice of them where they are many."""

from contextlib import AbstractContextManager, nullcontext

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.progress import reporting
from flows.runners import sealed, working
from flows.tasks import open_store, task
from schemas.manifest import ArtifactRef
from schemas.runner import THREADS, Runner
from schemas.sharding import ShardSettings
from storage.suppression import suppressed
from vip.sharding.build import build_dataset, build_shard, missing_shards, previous_bits, standing_shards
from vip.sharding.scan import SourceScan, scan_source
from vip.sharding.spool import spooled


@task(task_run_name="scan")
def scan(root: str, source: str, settings: ShardSettings) -> SourceScan:
    """Hash everything in the source; nothing is decoded yet."""
    store = open_store(root)
    with reporting() as progress:
        bits = previous_bits(store, settings.name)
        return scan_source(source, settings, suppressed(store), previous_bits=bits, progress=progress)


@task(task_run_name="shard-{found.prefixes[0]}")
def build(found: SourceScan, root: str) -> int:
    """Decode, check and pack the shards of a part of a scan, or find them made; tells only how many they are.

    What a task returns stays with the flow, and Prefect keeps a record of every part of it.
    """
    store = open_store(root)
    for prefix in found.prefixes:
        build_shard(store, found, prefix, workers=1)
    return len(found.prefixes)


@task(task_run_name="dataset")
def join(root: str, found: SourceScan) -> ArtifactRef:
    """Join the shards and show what was rejected."""
    store = open_store(root)
    dataset = build_dataset(store, found, standing_shards(store, found))
    counts = [{"what": name, "count": count} for name, count in dataset.stats.items() if isinstance(count, int)]
    create_table_artifact(key="dataset", table=counts, description=f"Dataset {found.settings.name}")
    return dataset.ref


@flow(name="shard")
def shard(root: str, source: str, settings: ShardSettings, runner: Runner = THREADS) -> ArtifactRef:
    """Turn ``source`` into the dataset ``settings.name``; shards whose images are unchanged are found, not built."""
    found = scan(root, source, settings)
    done = 0
    with reporting() as progress, _fetched(root, found, runner) as ready, working(runner) as pool:
        parts = (ready.only(prefixes) for prefixes in runner.slices(ready.prefixes))
        for made in pool.each(build, parts, root):
            done += made
            progress("shards", done, len(ready.prefixes))
    return join(root, sealed(found))


def _fetched(root: str, found: SourceScan, runner: Runner) -> AbstractContextManager[SourceScan]:
    """The scan with Parquet rows copied to a scratch folder, which the workers of another host could not read."""
    return nullcontext(found) if runner.address else spooled(found, missing_shards(open_store(root), found))
