"""A batch's four parts as a bar in SVG, for pages and notebooks: it is read without colour too. Pure."""

from __future__ import annotations

from html import escape
from typing import Protocol

LEAST_PERCENT = 1.0  # 2 px of a bar of 200
PARTS = ("succeeded", "failing", "dead", "waiting")
NOTEBOOK = {"succeeded": "#3fa46a", "failing": "#b57d0a", "dead": "#8c1220", "waiting": "#b8c0c8"}
FILLS = {"failing": "url(#hatch)", "dead": "url(#cross)"}


class Counts(Protocol):
    """What a bar shows: a status, or a reading of the counters."""

    @property
    def total(self) -> int: ...  # noqa: D102
    @property
    def succeeded(self) -> int: ...  # noqa: D102
    @property
    def failures(self) -> int: ...  # noqa: D102
    @property
    def dead(self) -> int: ...  # noqa: D102


def count_parts(of: Counts) -> dict[str, int]:
    """Return how many members each part of the bar stands for, from left to right."""
    failing = of.failures - of.dead
    waiting = of.total - of.succeeded - of.failures
    return dict(zip(PARTS, (of.succeeded, failing, of.dead, waiting), strict=True))


def count_open(of: Counts) -> int:
    """Return how many members have not ended: they wait for their run, or for a retry."""
    return of.total - of.succeeded - of.dead


def measure_parts(of: Counts) -> dict[str, tuple[float, float]]:
    """Return where each part begins and how wide it is, in percent; one that is not empty can be seen."""
    counts = count_parts(of)
    if of.total <= 0:
        return {}
    widths = {name: max(100 * n / of.total, LEAST_PERCENT) for name, n in counts.items() if n > 0}
    widest = max(widths, key=lambda name: widths[name])
    widths[widest] -= sum(widths.values()) - 100
    places, at = {}, 0.0
    for name, width in widths.items():
        places[name] = (round(at, 3), round(width, 3))
        at += width
    return places


def say_parts(of: Counts) -> str:
    """Say the parts in figures: `880 succeeded, 108 failing, 12 dead, 0 waiting, of 1,000`."""
    parts = ", ".join(f"{n:,} {name}" for name, n in count_parts(of).items())
    return f"{parts}, of {of.total:,}"


def draw_bar(of: Counts) -> str:
    """Return the bar as SVG. Its colours are the page's, by the class of each part."""
    rects = "".join(
        f'<rect class="{name}" x="{x:g}%" width="{width:g}%" height="100%"'
        + (f' fill="{FILLS[name]}"' if name in FILLS else "")
        + "/>"
        for name, (x, width) in measure_parts(of).items()
    )
    return f'<svg class="bar" role="img" aria-label="{say_parts(of)}" width="100%" height="14">{rects}</svg>'


def draw_for_notebook(of: Counts, title: str) -> str:
    """Return a title, the bar and its figures as HTML that needs no style sheet."""
    rects = "".join(
        f'<rect x="{x:g}%" width="{width:g}%" height="100%" fill="{NOTEBOOK[name]}"/>'
        for name, (x, width) in measure_parts(of).items()
    )
    figures = escape(say_parts(of))
    bar = f'<svg role="img" aria-label="{figures}" width="100%" height="14">{rects}</svg>'
    return f"<div><strong>{escape(title)}</strong><br>{bar}<br>{figures}</div>"
