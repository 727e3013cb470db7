"""What the questions of ``vip audit``, and ``vip export``, share: the index, progress, and how an answer is printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from flows.cli.common import is_terminal

if TYPE_CHECKING:
    from vip.lineage.index import LineageIndex, Progress

SHOWN = 20
"""Lines of a long list that a person is shown; ``--json`` has all."""


@contextmanager
def opened(root: str, progress: "Progress | None" = None) -> Iterator["LineageIndex"]:
    """The index of a root, up to date, for as long as the block lasts."""
    from vip.lineage.index import open_index

    index = open_index(root, progress or show_progress)
    try:
        yield index
    finally:
        index.close()


def show_progress(what: str, done: int, total: int) -> None:
    """One line that is redrawn, for a person who waits; nothing in a log."""
    if is_terminal() and total >= 100 and (done % 50 == 0 or done == total):
        end = "\n" if done == total else ""
        click.echo(f"\r  {what}: {done:,} of {total:,}{end}", err=True, nl=False)


def answer(record: dict[str, Any], as_json: bool) -> None:
    """Print an answer; a link that does not hold makes the command fail."""
    from flows.cli.records import print_record

    print_record(record, as_json)
    if not all(check["ok"] for check in record.get("checks", [])):
        raise SystemExit(1)
