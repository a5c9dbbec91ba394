"""Draw docs/images/demo.svg: the terminal of a real run of the demo, with the long parts cut.

Run it again after a change to what the demo prints: `python docs/demo_picture.py [SVG]`.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROWS, COLUMNS = 50, 110
SIZE, ADVANCE, LEADING, MARGIN = 13, 7.83, 18, 20
SHOWN = {
    "The mail that arrived": 15,
    "The webhook that arrived, its signature checked": 10,
}
CUT = "  ⋮"
STYLES = {"0": "", "1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow"}
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>{title}</title>
<style>
rect {{ fill: #0d1117; }}
text {{ fill: #c9d1d9; font: {size}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
.bold {{ fill: #f0f6fc; font-weight: bold; }} .dim {{ fill: #8b949e; }}
.red {{ fill: #ff7b72; }} .green {{ fill: #56d364; }} .yellow {{ fill: #e3b341; }}
</style>
<rect width="{width}" height="{height}" rx="8"/>
"""


def run_demo() -> str:
    """Run the demo in a terminal of its own; return its output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.environ.pop("NO_COLOR", None)
        os.execv(sys.executable, [sys.executable, "-m", "celery_batches_notify.demo"])  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    try:
        while read := os.read(terminal, 65536):
            written += read
    except OSError:  # how Linux says that the other side is gone
        pass
    if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit(f"the demo ended with {code}:\n{written.decode()}")
    return written.decode()


def last_states(written: str) -> Iterator[str]:
    """Return the lines as they stand in the end: a bar is drawn again and again in its place."""
    lines: list[str] = []
    for line in written.replace("\r\n", "\n").split("\n"):
        drawn_anew = re.match(r"\x1b\[(\d+)A\r\x1b\[J", line)
        if drawn_anew:
            del lines[-int(drawn_anew[1]) :]
        lines.append(line[drawn_anew.end() :] if drawn_anew else line)
    return iter(lines)


def cut(lines: Iterator[str]) -> Iterator[str]:
    """Leave out the ends of long sections, and paths of the machine."""
    left = None
    for line in lines:
        plain = re.sub(r"\x1b\[\d+m", "", line)
        if not plain and left is not None:
            yield from [CUT] if left < 0 else []
            left = None
        left = SHOWN.get(plain, left if left is None else left - 1)
        if left is None or left >= 0:
            yield re.sub(r"\S*(/lib/python[\d.]+)$", r"\1", line)[: COLUMNS + line.count("\x1b") * 5]


def draw_line(line: str, y: int) -> str:
    """Return a line as SVG."""
    spans, style = [], ""
    for part in re.split(r"(\x1b\[\d+m)", line):
        if code := re.fullmatch(r"\x1b\[(\d+)m", part):
            style = STYLES[code[1]]
        elif part:
            spans.append(f'<tspan class="{style}">{escape(part)}</tspan>' if style else escape(part))
    return f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{"".join(spans)}</text>\n' if spans else ""


def draw(lines: list[str]) -> str:
    """Return the picture as SVG."""
    title = "A run of celery-batches-demo in a terminal"
    width, height = round(COLUMNS * ADVANCE) + 2 * MARGIN, len(lines) * LEADING + 2 * MARGIN
    drawn = [draw_line(line, MARGIN + LEADING * (row + 1) - 5) for row, line in enumerate(lines)]
    return HEAD.format(width=width, height=height, size=SIZE, title=title) + "".join(drawn) + "</svg>\n"


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "images" / "demo.svg")
    target.write_text(draw(["$ celery-batches-demo", *cut(last_states(run_demo().rstrip()))]), "utf-8")
