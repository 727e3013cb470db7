"""Shard: a source of images becomes a dataset, one task a shard."""

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from flows.progress import reporting
from flows.tasks import in_waves, open_store, task
from schemas.manifest import ArtifactRef
from schemas.sharding import ShardSettings
from storage.suppression import suppressed
from vip.sharding.build import build_dataset, build_shard, missing_shards, previous_bits
from vip.sharding.scan import SourceScan, scan_source
from vip.sharding.spool import spooled


@task(task_run_name="scan")
def scan(root: str, source: str, settings: ShardSettings) -> SourceScan:
    """Hash everything in the source; nothing is decoded yet."""
    store = open_store(root)
    with reporting() as progress:
        bits = previous_bits(store, settings.name)
        return scan_source(source, settings, suppressed(store), previous_bits=bits, progress=progress)


@task(task_run_name="shard-{prefix}")
def build(prefix: str, root: str, found: SourceScan) -> ArtifactRef:
    """Decode, check and pack one shard, or find it made."""
    return build_shard(open_store(root), found, prefix, workers=1).ref


@task(task_run_name="dataset")
def join(root: str, found: SourceScan, shards: list[ArtifactRef]) -> ArtifactRef:
    """Join the shards and show what was rejected."""
    store = open_store(root)
    dataset = build_dataset(store, found, [store.require(shard) for shard in shards])
    counts = [{"what": name, "count": count} for name, count in dataset.stats.items() if isinstance(count, int)]
    create_table_artifact(key="dataset", table=counts, description=f"Dataset {found.settings.name}")
    return dataset.ref


@flow(name="shard", task_runner=ThreadPoolTaskRunner(max_workers=2))  # type: ignore[arg-type]
def shard(root: str, source: str, settings: ShardSettings) -> ArtifactRef:
    """Turn ``source`` into the dataset ``settings.name``; shards whose images are unchanged are found, not built."""
    found = scan(root, source, settings)
    prefixes = found.prefixes
    with reporting() as progress, spooled(found, missing_shards(open_store(root), found)) as ready:
        built = in_waves(build, prefixes, root, ready, on_done=lambda done: progress("shards", done, len(prefixes)))
        shards = list(built)
    return join(root, found, shards)
