"""Result: how the end of a run is told, figures and all."""

from typing import TYPE_CHECKING, Any

import click

from flows.cli.common import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.manifest import ArtifactRef
    from schemas.run_result import RunResult
    from storage.store import ArtifactStore


def read_metrics(store: "ArtifactStore", evaluation: "ArtifactRef") -> list[dict[str, Any]]:
    """The figures of an evaluation, rows of ``METRICS``."""
    from schemas.tables import METRICS
    from storage.tables import read_table

    return read_table(store.read(store.require(evaluation), "metrics.parquet"), METRICS).to_pylist()


def show_metrics(rows: list[dict[str, Any]]) -> None:
    """The figures as a table, each with the id by which `vip audit metric` finds it."""
    print_table(
        [
            (row["metric"], row["setting"], f"{row['value']:.4g}", interval(row), row["n"], row["metric_id"][:12])
            for row in rows
        ],
        ("metric", "setting", "value", "interval", "images", "id"),
    )


def interval(row: "Mapping[str, Any]") -> str:
    """Such as ``[0.12, 0.2]``; nothing where no interval is honest."""
    return "" if row["low"] is None else f"[{row['low']:.4g}, {row['high']:.4g}]"


def show_crossing(rows: "Sequence[Mapping[str, Any]]") -> None:
    """Checkpoints down, prompt sets across, for every region; rows of :func:`vip.evaluation.compare.crossing`."""
    for region in dict.fromkeys(row["region"] for row in rows):
        of_region = [row for row in rows if row["region"] == region]
        columns = list(dict.fromkeys((row["setting"], row["caption_set"]) for row in of_region))
        cells = {(row["checkpoint"], row["setting"], row["caption_set"]): row for row in of_region}
        lines = []
        for checkpoint in dict.fromkeys(row["checkpoint"] for row in of_region):
            found = [cells.get((checkpoint, *column)) for column in columns]
            lines.append((checkpoint[:12], *(f"{one['value']:.4g} {interval(one)}" if one else "-" for one in found)))
        click.echo(f"{region}, {of_region[0]['n']} images: checkpoints down, setting and prompt set across")
        print_table(lines, ("", *(f"{setting} {captions[:12]}".strip() for setting, captions in columns)))


def show_result(root: str, result: "RunResult") -> None:
    """The end of a run: what was made, what was reused, where it is, what to do next."""
    from storage.store import ArtifactStore

    store = ArtifactStore(root)
    click.echo()
    print_table(
        [(one.name, f"{one.seconds:.1f} s", one.made, one.reused, one.note) for one in result.summary.stages],
        ("stage", "time", "made", "reused", ""),
    )
    metrics = read_metrics(store, result.evaluation)
    click.echo()
    show_metrics(metrics)
    caption = _first_caption(store, result.captions)
    page = store.local(store.require(result.report)) / "report.html"
    checkpoint = store.local(store.require(result.checkpoint)) / "pipeline"
    click.echo()
    if not result.requests and not result.steps:
        click.echo("Everything was found made: no caption was requested and no training step taken.")
    print_table(
        [
            ("report", page),
            ("checkpoint", checkpoint),
            ("root", store.backend.root if store.backend.is_local else store.backend.url),
            *([("next", f"vip audit caption {caption[:12]}")] if caption else []),
            ("" if caption else "next", f"vip audit metric {metrics[0]['metric_id'][:12]}"),
            ("", "vip audit verify"),
        ]
    )


def _first_caption(store: "ArtifactStore", caption_set: "ArtifactRef") -> str | None:
    """The id of some caption of a set; None where all of it was rejected."""
    from schemas.tables import CAPTIONS
    from storage.tables import read_table

    for _, ref in sorted(store.require(caption_set).inputs.items()):
        captions = store.require(ref)
        rows = read_table(store.read(captions, "captions.parquet"), CAPTIONS, ["caption_id"])
        if rows.num_rows:
            return str(rows.column(0)[0].as_py())
    return None
