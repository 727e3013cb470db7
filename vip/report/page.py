"""Page: what the template is told."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
from markupsafe import Markup

from schemas.manifest import Manifest
from schemas.region import View, read_region
from schemas.run_summary import RunSummary
from vip.evaluation.network import label_of
from vip.report import words
from vip.report.chart import Line, line_chart, smooth
from vip.report.pictures import Example


def render(values: dict[str, Any]) -> str:
    """The page as HTML; every value is escaped by the template engine."""
    folder = resources.files("vip.report") / "templates"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        setting=words.setting_label,
        setting_note=lambda setting: words.SETTINGS.get(setting, ("", ""))[1],
        duration=words.duration,
    )
    css = Markup((folder / "report.css").read_text("utf-8"))  # noqa: S704 - our own stylesheet
    return environment.from_string((folder / "report.html.j2").read_text("utf-8")).render(css=css, **values)


def matrix(rows: Sequence[dict[str, Any]], settings: Sequence[str]) -> list[dict[str, Any]]:
    """Metrics down, settings across."""
    lines = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        of_metric = {row["setting"]: row for row in rows if row["metric"] == metric}
        some = next(iter(of_metric.values()))
        lines.append(
            {
                "label": words.metric_label(some),
                "better": words.metric_better(metric),
                "unit": some["unit"],
                "cells": [_cell(of_metric.get(setting)) for setting in settings],
            }
        )
    return lines


def _cell(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    low, high = (words.number(row["metric"], row[end]) for end in ("low", "high"))
    interval = f"{low} to {high}" if low and low != high else ""
    return {"value": words.number(row["metric"], row["value"]), "interval": interval, "n": words.count(row["n"])}


def loss_charts(losses: pa.Table | None) -> list[dict[str, Any]]:
    """The loss, and the learned ``a`` of every block, over the steps."""
    if losses is None or not losses.num_rows:
        return []
    steps = losses.column("step").to_pylist()
    loss = losses.column("loss").to_pylist()
    smoothed = smooth(loss)
    charts = [
        {
            "svg": line_chart([Line("each step", steps, loss, "raw"), Line("running mean", steps, smoothed)], "step"),
            "caption": f"Loss, weighted as trained: {smoothed[-1]:.4f} over the last steps.",
            "legend": [{"style": "raw", "label": "each step"}, {"style": "", "label": "running mean"}],
        }
    ]
    scalars = _scalars(losses)
    if scalars:
        lines = [Line(name, steps, values, f"c{place % 8}") for place, (name, values) in enumerate(scalars.items())]
        charts.append(
            {
                "svg": line_chart(lines, "step", zero=True),
                "caption": "The learned weight a of the regional branches in each block; 0 is the plain model.",
                "legend": [{"style": line.style, "label": line.label} for line in lines],
            }
        )
    return charts


def _scalars(losses: pa.Table) -> dict[str, list[float]]:
    """Block -> its ``a`` over the steps."""
    if "a" not in losses.column_names:
        return {}
    rows = [dict(row) if row is not None else {} for row in losses.column("a").to_pylist()]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [float(row.get(name, np.nan)) for row in rows] for name in names}


def exam_sentence(evaluation: Manifest) -> str:
    """The exam in one or two sentences, from what its params say: they hold no path, so they make no config again."""
    exam, network = evaluation.params, evaluation.params["network"]
    view, region = View.model_validate(exam["view"]), read_region(json.dumps(exam["region"]))
    n, without = (evaluation.stats[name] for name in ("images", "without_caption"))
    left_out = f" {without} more had no caption in some setting and were left out." if without else ""
    return (
        f"{words.count(n)} images of the {exam['split']} split, view {view.id}, region {region.id}, "
        f"{exam['steps']} steps, guidance {exam['guidance']:g}, seed {exam['seed']}. "
        f"Features: {label_of(network['name'], network['digest'])}.{left_out}"
    )


def stage_lines(run: RunSummary) -> list[dict[str, Any]]:
    """Stages with the length of their bars in per cent of the longest."""
    longest = max((stage.seconds for stage in run.stages), default=0.0) or 1.0
    return [{**stage.model_dump(), "share": round(100 * stage.seconds / longest, 1)} for stage in run.stages]


def lineage_line(role: str, manifest: Manifest, detail: str = "") -> dict[str, str]:
    """One line of the table of origins."""
    producer = manifest.producer
    commit = f", code {producer.commit[:10]}{' (changed)' if producer.dirty else ''}" if producer.commit else ""
    return {
        "role": role,
        "detail": detail,
        "stage": f"{producer.stage}{commit}",
        "digest": manifest.digest,
        "key": manifest.key,
    }


def pixelated(examples: Sequence[Example], width: int) -> str:
    """The class that keeps small pictures crisp when the page enlarges them."""
    return "pixelated" if examples and width <= 128 else ""
