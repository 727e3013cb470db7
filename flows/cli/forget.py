"""``vip forget``: take images down."""

import click

from flows.cli.common import print_json, print_table, shared_options


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--reason", required=True, help="Why; it stands in the record and on the suppression list.")
@click.option("--by", "signed_by", help="Who answers for it. [default: the user who runs this]")
@click.option("--plan", "only_plan", is_flag=True, help="Only say what would be erased and what had used it.")
@click.option("--no-search", is_flag=True, help="Do not read every file of the root for the bytes afterwards.")
@shared_options
def command(
    images: tuple[str, ...],
    reason: str,
    signed_by: str | None,
    only_plan: bool,
    no_search: bool,
    root: str,
    as_json: bool,
) -> None:
    """Erase IMAGE (a file, a SHA-256, or a name it had) from every artifact, and keep it out of every later build.

    The shards, samples and reports that hold it are erased behind tombstones, each dataset gets its next version,
    images with the same pixels go with it, and a record says what had used it. There is no way back.
    """
    import getpass
    import json

    from flows.cli.records import print_rows
    from flows.console import console
    from schemas.errors import VipError
    from storage.store import ArtifactStore
    from vip.lineage.forget import plan_takedown, require_reason, run_takedown
    from vip.lineage.index import open_index

    reason = require_reason(reason)
    progress = None if as_json else console.progress
    store = ArtifactStore(root)
    index = open_index(root, progress)
    plan = plan_takedown(index, store, images, progress)
    if only_plan:
        found = {
            "images": plan.images,
            "twins": plan.twins,
            "erase": [{"kind": row["kind"], "key": row["key"]} for row in (*plan.shards, *plan.derived)],
            "datasets": plan.datasets,
            "captions": plan.captions,
            "checkpoints": plan.made_with(),
            "metrics": plan.metrics,
            "retraining": plan.retraining,
        }
        if as_json:
            print_json(found)
        else:
            print_rows([{"image": sha256, "names": ", ".join(known)} for sha256, known in plan.images.items()])
            print_table([(what, _count(value)) for what, value in found.items() if what != "images"])
            click.echo("nothing was touched; leave --plan out to erase")
        return
    made = run_takedown(index, store, plan, reason, signed_by or getpass.getuser(), not no_search, progress)
    index.refresh()
    index.close()
    record = json.loads(store.read(made, "record.json"))
    if as_json:
        print_json(record | {"record": store.path(made, "record.json")})
    else:
        print_table(
            [
                *((f"image {row['sha256'][:16]}", ", ".join(row["names"])) for row in record["images"]),
                ("erased", f"{len(record['erased'])} artifacts"),
                *((row["ref"], row["after"] or row["problem"]) for row in record["datasets"]),
                ("had used it", _used(record)),
                ("retraining", f"{record['retraining']['checkpoints']} checkpoints, {record['retraining']['hours']} h"),
                ("record", store.path(made, "record.json")),
            ]
        )
    for row in record["images"]:
        if not (row["searched"] or no_search):
            click.echo(
                f"note: no bytes of {row['sha256'][:16]} to search the root for; name the image by its file",
                err=True,
            )
    if held := record["still_held_by"]:
        others = f", and {len(held) - 1} more files" if len(held) > 1 else ""
        raise VipError(
            f"{held[0]['file']} still holds the bytes of {held[0]['image'][:16]}{others}",
            "run it again, as a run beside it may just have written them; what is no artifact has to go by hand",
        )


def _count(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items()) or "none"
    return f"{len(value):,}" if isinstance(value, list) else str(value)


def _used(record: dict[str, list[object]]) -> str:
    return ", ".join(f"{len(record[what]):,} {what}" for what in ("captions", "checkpoints", "metrics"))
