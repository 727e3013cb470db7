"""``vip ref``: the names that move."""

import click

from flows.cli.common import print_json, shared_options


@click.group()
def command() -> None:
    """Set, list or roll back refs: names such as `promoted` or `dataset/NAME` that point at artifacts."""


@command.command(name="list")
@shared_options
def list_refs(root: str, as_json: bool) -> None:
    """Every ref and where it points now."""
    from flows.cli.records import print_rows
    from storage.backend import Backend
    from storage.refs import Refs

    refs = Refs(Backend(root))
    last = [refs.log(name)[-1] for name in refs.names()]
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in last])
        return
    print_rows(
        [
            {
                "ref": entry.name,
                "kind": entry.target.kind,
                "key": entry.target.key,
                "set": f"{entry.at:%Y-%m-%d %H:%M}",
                "number": entry.number,
                "note": entry.note,
            }
            for entry in last
        ]
    )


@command.command(name="set")
@click.argument("name")
@click.argument("target", metavar="REF|ID")
@click.option("--note", default="", help="Why; it stands in the ref's log.")
@shared_options
def set_ref(name: str, target: str, note: str, root: str, as_json: bool) -> None:
    """Point NAME at an artifact, given by another ref, `kind/prefix`, or a unique prefix of its key or digest."""
    from typing import get_args

    from schemas.errors import VipError
    from schemas.manifest import ArtifactRef, Kind
    from storage.backend import Backend
    from storage.refs import Refs
    from vip.lineage.index import open_index
    from vip.lineage.resolve import ref_folder, resolve_live

    _refuse_records(name)
    index = open_index(root)
    row = resolve_live(index, target)
    index.close()
    meant = [kind for kind in get_args(Kind) if name.startswith(f"{ref_folder(kind)}/")]
    if meant and row["kind"] not in meant:
        raise VipError(f"{name} is a name for a {meant[0]}, not for a {row['kind']}", "give another name or target")
    entry = Refs(Backend(root)).set(name, ArtifactRef(kind=row["kind"], key=row["key"], digest=row["digest"]), note)
    _said(entry.model_dump(mode="json"), as_json)


@command.command()
@click.argument("name")
@click.option("--to", "number", type=click.IntRange(1), help="Entry of its log. [default: the one before]")
@click.option("--note", default="", help="Why; it stands in the ref's log.")
@shared_options
def rollback(name: str, number: int | None, note: str, root: str, as_json: bool) -> None:
    """Point NAME back at what it pointed at before; the log keeps both."""
    from schemas.errors import VipError
    from storage.refs import Refs
    from storage.store import ArtifactStore

    _refuse_records(name)
    store = ArtifactStore(root)
    refs = Refs(store.backend)
    log = refs.log(name)
    if not log:
        raise VipError(f"no ref is called '{name}'", "see `vip ref list`")
    earlier = [entry for entry in log if entry.target != log[-1].target]
    if number is not None:
        earlier = [entry for entry in log if entry.number == number]
    if not earlier:
        raise VipError(
            f"{name} has no {'earlier target' if number is None else f'entry {number}'}", "see `vip audit log`"
        )
    back = earlier[-1]
    if store.require(back.target).digest != back.target.digest:
        raise VipError(
            f"{back.target.kind} {back.target.key[:12]} was made again since, with other bytes",
            "look at what stands now (`vip audit`), and set the ref to it by `vip ref set`",
        )
    entry = refs.set(name, back.target, note or f"rolled back to entry {back.number}")
    _said(entry.model_dump(mode="json"), as_json)


def _refuse_records(name: str) -> None:
    """Images would come back, and removals be forgotten, by moving these."""
    from schemas.errors import VipError

    if name in ("suppressed", "takedowns"):
        raise VipError(f"the ref {name} is a record of takedowns, which only grows", "see `vip forget`")


def _said(entry: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(entry)
        return
    target: dict[str, str] = entry["target"]  # type: ignore[assignment]
    click.echo(f"{entry['name']} -> {target['kind']} {target['key'][:16]} (entry {entry['number']})")
