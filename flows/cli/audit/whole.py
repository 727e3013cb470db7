"""``vip audit verify|reindex``: the root as a whole."""

import click

from flows.cli.audit.answer import show_progress
from flows.cli.common import plain, print_json, print_table, shared_options


@click.command()
@shared_options
def verify(root: str, as_json: bool) -> None:
    """Re-hash every file, follow every link and every ref; exit with 1 where anything is not as published."""
    from dataclasses import asdict

    from schemas.errors import VipError
    from storage.backend import Backend
    from vip.lineage import verify as verifying

    backend = Backend(root)
    if not any(True for _ in backend.list("published")):
        raise VipError(f"nothing was ever published at {root}", "give --root")
    found = verifying.verify(backend, show_progress)
    if as_json:
        print_json(asdict(found) | {"ok": found.ok})
    else:
        for note in found.notes:
            click.echo(f"note     {plain(note.file)}: {plain(note.problem)}")
        for problem in found.problems:
            click.echo(f"PROBLEM  {plain(problem.file)}: {plain(problem.problem)}")
        print_table(
            [
                ("artifacts", f"{found.artifacts:,} stand, {found.removed:,} removed on purpose"),
                ("hashed", f"{found.files:,} files, {found.bytes / 1e6:,.1f} MB"),
                ("answers", f"{found.segments:,} segments"),
                ("refs", f"{found.refs:,} entries"),
                ("problems", f"{len(found.problems):,}"),
            ]
        )
    if not found.ok:
        raise SystemExit(1)


@click.command()
@shared_options
def reindex(root: str, as_json: bool) -> None:
    """Build the index anew from the manifests; it is derived and may be deleted at any time."""
    import time

    began = time.monotonic()
    from storage.backend import Backend
    from vip.lineage.index import LineageIndex

    index = LineageIndex(Backend(root), show_progress)
    count = index.rebuild()
    done = {
        "artifacts": count,
        "captions": index.db.execute("SELECT count(*) FROM caption").fetchone()[0],
        "metrics": index.db.execute("SELECT count(*) FROM metric").fetchone()[0],
        "seconds": round(time.monotonic() - began, 2),
        "file": str(index.path),
    }
    index.close()
    if as_json:
        print_json(done)
    else:
        print_table(done.items())
