"""A picture of the peers: how many tasks a producer sends, and how many a worker runs, in a second of CPU."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.bench.costs import Row

WIDTH, LEFT, BAR, GAP = 820, 330, 18, 8
OURS = ("batch", "`with batch:`")
HEADINGS = {
    "Sending": "Tasks sent in a second of CPU, beside delay() of Celery: more is better",
    "Running": "CPU for running a task, beside one of Celery: less is better",
}


def draw(rows: Sequence[Row]) -> str:
    """Return an SVG with a bar for each row of the peers; empty parts are left out."""
    y, parts = 20, list[str]()
    for begins, heading in HEADINGS.items():
        some = [row for row in rows if row.part.startswith(begins)]
        if some:
            y = _draw_part(parts, some, heading, y) + 24
    title = "Sending and running tasks with Celery, this package and other libraries"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" '
        f'aria-labelledby="title" font-family="system-ui, sans-serif" font-size="14">\n'
        f'  <title id="title">{title}</title>\n  <rect x="1" y="1" width="{WIDTH - 2}" height="{y - 2}" '
        f'rx="10" fill="#fbfcfe" stroke="#d5dce8"/>\n' + "".join(parts) + "</svg>\n"
    )


def _draw_part(parts: list[str], rows: Sequence[Row], heading: str, y: int) -> int:
    most = max(row.value for row in rows)
    parts.append(f'  <text x="20" y="{y + 16}" font-weight="600" fill="#1c2738">{escape(heading)}</text>\n')
    y += 32
    for row in rows:
        width = max(2, round((WIDTH - LEFT - 90) * row.value / most))
        fill = "#3f6fb5" if any(word in row.what for word in OURS) else "#b9c6da"
        words, number = escape(row.what.replace("`", "")), escape(row.measured.partition(" ")[0])
        parts.append(
            f'  <text x="{LEFT - 10}" y="{y + 14}" text-anchor="end" fill="#33435c">{words}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{width}" height="{BAR}" rx="3" fill="{fill}"/>'
            f'<text x="{LEFT + width + 8}" y="{y + 14}" fill="#1c2738">{number}</text>\n'
        )
        y += BAR + GAP
    return y
