"""Draw the panels of a dashboard as SVG: numbers, and curves with their scales and names."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

Points = list[tuple[float, float]]
Curves = Sequence[tuple[str, Points]]

WIDTH, UNIT, GAP, LINES = 1200, 45, 8, 4
CURVES = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#c8f2c2")
NAMED = {"green": "#73bf69", "orange": "#ff780a", "red": "#f2495c"}
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>{title}</title>
<style>
.page {{ fill: #111217; }} .panel {{ fill: #181b1f; stroke: #2b2e34; }} .grid {{ stroke: #2b2e34; }}
path {{ fill: none; stroke-width: 1.5; }}
text {{ fill: #ccccdc; font: 12px Inter, Helvetica, Arial, sans-serif; }}
.title {{ font-weight: 500; font-size: 13px; }} .axis {{ fill: #8e8e9a; font-size: 11px; }}
.stat {{ font-size: 40px; font-weight: 500; text-anchor: middle; }}
</style>
<rect class="page" width="{width}" height="{height}"/>"""


def draw_dashboard(
    title: str, panels: Sequence[tuple[dict[str, Any], Curves]], span: tuple[float, float]
) -> str:
    """Return a picture of panels, as Grafana's JSON describes them, each with its curves."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in panels) * UNIT
    lines = [HEAD.format(width=WIDTH, height=height, title=escape(title))]
    for panel, curves in panels:
        lines += draw_panel(panel, curves, span)
    return "\n".join([*lines, "</svg>", ""])


def draw_panel(panel: dict[str, Any], curves: Curves, span: tuple[float, float]) -> Iterator[str]:
    """Yield the lines of one panel, at its place in the grid."""
    grid, defaults = panel["gridPos"], panel["fieldConfig"]["defaults"]
    x, y = grid["x"] * WIDTH / 24 + GAP / 2, grid["y"] * UNIT + GAP / 2
    w, h = grid["w"] * WIDTH / 24 - GAP, grid["h"] * UNIT - GAP
    yield f'<g transform="translate({x:.0f} {y:.0f})">'
    yield f'<rect class="panel" width="{w:.0f}" height="{h:.0f}" rx="3"/>'
    yield f'<text class="title" x="10" y="20">{escape(panel["title"])}</text>'
    if panel["type"] == "stat":
        yield draw_number(curves, defaults, w / 2, h / 2 + 25)
    else:
        yield from draw_curves(curves, defaults["unit"], span, w, h)
    yield "</g>"


def draw_number(curves: Curves, defaults: dict[str, Any], x: float, y: float) -> str:
    """Draw the last value, in the colour of the threshold that it has passed."""
    value = curves[0][1][-1][1] if curves and curves[0][1] else math.nan
    steps = defaults.get("thresholds", {}).get("steps", [])
    passed = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    colour, text = NAMED[(passed or ["green"])[-1]], show(value, defaults["unit"])
    return f'<text class="stat" style="fill:{colour}" x="{x:.0f}" y="{y:.0f}">{text}</text>'


def draw_curves(
    curves: Curves, unit: str, span: tuple[float, float], width: float, height: float
) -> Iterator[str]:
    """Yield scales, curves, and their names."""
    left, right, top, bottom = 62, width - 30, 36, height - 50
    most = max((value for _, points in curves for _, value in points), default=1) or 1

    def x_of(at: float) -> float:
        return left + (at - span[0]) / (span[1] - span[0]) * (right - left)

    def y_of(value: float) -> float:
        return bottom - value / most * (bottom - top)

    for k in range(LINES + 1):
        value, at = most * k / LINES, span[0] + k / LINES * (span[1] - span[0])
        y, clock = f"{y_of(value):.0f}", time.strftime("%H:%M:%S", time.gmtime(at))
        yield f'<line class="grid" x1="{left}" x2="{right:.0f}" y1="{y}" y2="{y}"/>'
        yield f'<text class="axis" x="{left - 6}" y="{y}" dy="4" text-anchor="end">{show(value, unit)}</text>'
        x = f"{x_of(at):.0f}"
        yield f'<text class="axis" x="{x}" y="{bottom + 16:.0f}" text-anchor="middle">{clock}</text>'
    yield from draw_lines(curves, x_of, y_of, left, height)


def draw_lines(
    curves: Curves, x_of: Callable[[float], float], y_of: Callable[[float], float], left: float, height: float
) -> Iterator[str]:
    """Yield the curves, and below them their names."""
    for k, (name, points) in enumerate(curves):
        colour = CURVES[k % len(CURVES)]
        if points:
            line = " L".join(f"{x_of(at):.1f} {y_of(value):.1f}" for at, value in points)
            yield f'<path style="stroke:{colour}" d="M{line}"/>'
        yield f'<rect x="{left}" y="{height - 22:.0f}" width="12" height="4" style="fill:{colour}"/>'
        yield f'<text x="{left + 17}" y="{height - 16:.0f}">{escape(name)}</text>'
        left += 30 + 7 * len(name)


def show(value: float, unit: str) -> str:
    """Show a value in its unit."""
    if unit == "s":
        return f"{value / 60:.1f} min" if value >= 60 else f"{value:.3g} s"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
