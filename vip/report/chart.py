"""Line charts as inline SVG that takes its colours from the page."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 520, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 28
_POINTS = 400


class Line(NamedTuple):
    """One line of a chart: ``values[i]`` at ``places[i]``; ``style`` is a class of the page's stylesheet."""

    label: str
    places: Sequence[float]
    values: Sequence[float]
    style: str = ""


def line_chart(lines: Sequence[Line], across: str, zero: bool = False) -> Markup:
    """Draw lines over a shared axis.

    Args:
        lines: at least one with a finite point.
        across: label of the horizontal axis.
        zero: draw the zero line and keep it in sight.

    Returns:
        An ``<svg>`` element, or an empty string where there is nothing to draw.
    """
    points = [(x, y) for line in lines for x, y in zip(line.places, line.values, strict=True) if math.isfinite(y)]
    if not points:
        return Markup("")
    low, high = min(y for _, y in points), max(y for _, y in points)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    start, end = min(x for x, _ in points), max(x for x, _ in points)
    end = end if end > start else start + 1

    def x_of(x: float) -> float:
        return round(_LEFT + (x - start) / (end - start) * (WIDTH - _LEFT - _RIGHT), 1)

    def y_of(y: float) -> float:
        return round(HEIGHT - _BOTTOM - (y - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in ticks(low, high):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y_of(tick)}" y2="{y_of(tick)}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y_of(tick) + 4}" text-anchor="end">{tick_label(tick)}</text>')
    for tick in (tick for tick in ticks(start, end) if x_of(tick) < WIDTH - _RIGHT - 60):
        parts.append(f'<text x="{x_of(tick)}" y="{HEIGHT - 10}" text-anchor="middle">{tick_label(tick)}</text>')
    parts.append(f'<text class="axis" x="{WIDTH - _RIGHT}" y="{HEIGHT - 10}" text-anchor="end">{escape(across)}</text>')
    if zero:
        parts.append(f'<line class="zero" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y_of(0)}" y2="{y_of(0)}"/>')
    for line in lines:
        step = max(1, len(line.values) // _POINTS)
        path = " ".join(
            f"{x_of(x)},{y_of(y)}"
            for place, (x, y) in enumerate(zip(line.places, line.values, strict=True))
            if math.isfinite(y) and (place % step == 0 or place == len(line.values) - 1)
        )
        parts.append(
            f'<polyline class="line {escape(line.style)}" points="{path}">'
            f"<title>{escape(line.label)}</title></polyline>"
        )
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - numbers of our own, and labels escaped above


def smooth(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Mean over a window that ends at each place and is ``share`` of the length wide."""
    width = max(1, round(len(values) * share))
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[i + 1] - sums[max(0, i + 1 - width)]) / min(i + 1, width) for i in range(len(values))]


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers within the range."""
    raw = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float) -> str:
    """A tick in words: six digits at most."""
    return f"{value:.6g}"
