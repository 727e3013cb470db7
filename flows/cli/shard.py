"""``vip shard``: a source of images becomes a dataset."""

from typing import TYPE_CHECKING, Any

import click

from flows.cli.common import print_json, print_table, runner_option, shared_options

if TYPE_CHECKING:
    from schemas.runner import Runner


@click.command()
@click.argument("source")
@click.option("--name", required=True, help="Name of the dataset; its ref is dataset/NAME.")
@click.option("--bits", type=click.IntRange(1, 20), help="Leading key bits that name a shard. [default: by size]")
@click.option("--samples-per-shard", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--test-share", type=click.FloatRange(0, 1), default=0.1, show_default=True)
@click.option("--train-list", help="File that names the training images, one a line; what no list names stays out.")
@click.option("--test-list", help="The same for the test images.")
@runner_option
@shared_options
def command(source: str, name: str, runner: "Runner | None", root: str, as_json: bool, **values: Any) -> None:
    """Turn SOURCE (a folder, tars or Parquet with image bytes) into a dataset of WebDataset shards.

    A sample is named by the SHA-256 of its bytes. What is no image is listed in the dataset's rejects table.
    """
    from flows.cli.common import validated
    from flows.console import console
    from flows.run import local_run
    from schemas.runner import THREADS
    from schemas.sharding import ShardSettings

    settings = validated(ShardSettings, "vip shard", name=name, **values)
    console.quiet = as_json
    with local_run(root):
        from flows.shard import shard
        from storage.store import ArtifactStore

        dataset = ArtifactStore(root).require(shard(root, source, settings, runner or THREADS))
    if as_json:
        print_json({"dataset": dataset.ref.model_dump(), "stats": dataset.stats})
        return
    stats = dataset.stats
    print_table(
        [
            ("dataset", f"dataset/{name} ({dataset.digest[:12]})"),
            ("samples", f"{stats['samples']:,} ({stats['train']:,} train, {stats['test']:,} test)"),
            ("shards", f"{stats['shards']:,}"),
            ("rejected", f"{stats['rejected']:,} {stats['reasons'] or ''}".rstrip()),
        ]
    )
