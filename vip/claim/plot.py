"""Plot: what each arm gains, with its interval and the gain of every seed, as an SVG file."""

from collections.abc import Sequence
from html import escape

from vip.claim.verdicts import Line
from vip.report.chart import tick_label, ticks

_WIDTH, _ROW, _HEAD = 720, 26, 40
_LEFT, _RIGHT = 140, 24
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#3a3733}.head{font-weight:600}.grid{stroke:#e4e1dc}.zero{stroke:#8a857d}"
    ".interval{stroke:#2f6f8f;stroke-width:3;stroke-linecap:round}.mean{fill:#2f6f8f}.seed{fill:none;stroke:#c2703d}"
)


def gains_plot(lines: Sequence[Line], against: str) -> str:
    """One panel a metric and setting, one row an arm: the mean gain (dot), its interval (bar), each seed's (rings).

    Args:
        lines: of :func:`vip.claim.verdicts.verdict_lines`; those without an interval are left out.
        against: the arm at 0.

    Returns:
        A whole SVG document.
    """
    panels: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.gain is not None and line.low is not None and line.high is not None:
            panels.setdefault((line.setting, line.metric), []).append(line)
    parts, top = [], 0
    for (setting, metric), rows in panels.items():
        parts += _panel(f"{metric} ({setting}): gain against {against}, right = better", rows, top)
        top += _HEAD + _ROW * (len(rows) + 1)
    size = f'width="{_WIDTH}" height="{top}" viewBox="0 0 {_WIDTH} {top}"'
    ground = f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{ground}'
    return head + "".join(parts) + "</svg>\n"


def _panel(title: str, rows: Sequence[Line], top: int) -> list[str]:
    shown = [value for row in rows for value in (0.0, row.low, row.high, *row.seed_gains) if value is not None]
    low, high = min(shown), max(shown)
    high = high if high > low else low + 1.0

    def x_of(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    bottom = top + _HEAD + _ROW * len(rows)
    parts = [f'<text class="head" x="8" y="{top + 22}">{escape(title)}</text>']
    for tick in ticks(low, high):
        x = x_of(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top + _HEAD - 8}" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">{tick_label(tick)}</text>')
    parts.append(f'<line class="zero" x1="{x_of(0)}" x2="{x_of(0)}" y1="{top + _HEAD - 8}" y2="{bottom}"/>')
    for number, row in enumerate(rows):
        y = top + _HEAD + _ROW * number + _ROW // 2 - 6
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(row.arm)}</text>')
        parts.append(f'<line class="interval" x1="{x_of(row.low or 0)}" x2="{x_of(row.high or 0)}" y1="{y}" y2="{y}"/>')
        parts += [f'<circle class="seed" cx="{x_of(gain)}" cy="{y}" r="4"/>' for gain in row.seed_gains]
        parts.append(f'<circle class="mean" cx="{x_of(row.gain or 0)}" cy="{y}" r="5"/>')
    return parts
