"""The rows as a table in the documentation, between its markers, and as a picture."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from celery_batches_notify.testing.server import find_binary
from tests.bench.celery_ways import versions
from tests.bench.costs import Row
from tests.bench.picture import draw

ALT = "Bars: how fast Celery, this package and other libraries send tasks and run them"
DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "explanation" / "performance.md"
PICTURE = DOCS / "images" / "bench.svg"


def line(row: Row) -> str:
    """Return a row for the terminal."""
    reached = {True: "reached", False: "NOT REACHED", None: ""}[row.is_reached]
    spread = f"({row.spread})" if row.spread else ""
    wall = f"wall {row.wall}" if row.wall else ""
    aim = f"aim {row.aim}" if row.aim else ""
    return f"{row.what:66} {row.measured:>20} {spread:16} {wall:12} {aim:18} {reached}".rstrip()


def table(rows: Iterable[Row]) -> str:
    """Return the rows in Markdown, a table per heading."""
    parts = []
    for part, some in groupby(rows, lambda row: row.part):
        parts.append(f"### {part}\n\n| | median | rounds | by the clock | aim |\n|---|---|---|---|---|")
        parts[-1] += "".join(f"\n{_cells(row)}" for row in some)
    return "\n\n".join(parts)


def machine() -> str:
    """Say on what this was measured."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    server = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=([\d.]+)", server)
    names = [f"{name} {version}" for name, version in versions().items()]
    names += [f"Valkey {found[1] if found else 'of an unknown version'}", *_rabbitmq()]
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%d %B %Y}; Python {platform.python_version()}, {', '.join(names)}; "
        f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, load {load:.1f}."
    )


def write(rows: Sequence[Row], *, page: Path = PAGE, picture: Path = PICTURE) -> None:
    """Put the figures and the picture into the documentation."""
    text, count = re.subn(
        r"(<!-- bench -->\n).*?(<!-- end of bench -->)",
        lambda found: (
            f"{found[1]}\n![{ALT}](../images/bench.svg)\n\n{machine()}\n\n{table(rows)}\n\n{found[2]}"
        ),
        page.read_text("utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{page} has not the markers of the benchmark")
    page.write_text(text, "utf-8")
    picture.write_text(draw(rows), "utf-8")


def _cells(row: Row) -> str:
    reached = {True: ": reached", False: ": **not reached**", None: ""}[row.is_reached]
    return f"| {row.what} | {row.measured} | {row.spread} | {row.wall} | {row.aim}{reached} |"


def _rabbitmq() -> list[str]:
    if not shutil.which("dpkg-query"):
        return []
    command = ["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"]
    asked = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
    )
    return [f"RabbitMQ {asked.stdout.partition('-')[0]}"] if asked.returncode == 0 else []
