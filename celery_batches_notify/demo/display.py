"""The live progress bar: a `+` for members that succeeded, a `-` where some failed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from itertools import groupby

from celery_batches_notify.demo.console import Console
from celery_batches_notify.model import Progress

CELLS_AT_MOST = 50
CELLS_AT_LEAST = 5
FIGURES_COLUMNS = 56
STEPS = 10
REDRAW_SECONDS = 0.2  # tox passes output on once it has been quiet for 0.1 s
_ERASE = "\r\x1b[K"


class Bar:
    """Shows the readings of one batch: on a terminal in place, elsewhere as a line per tenth.

    Args:
        console: Where to.
        clock: Seconds that only grow.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = clock()
        columns = shutil.get_terminal_size().columns if console.is_live else 200
        self._cells = max(CELLS_AT_LEAST, min(CELLS_AT_MOST, columns - FIGURES_COLUMNS))
        self._failed_cells: set[int] = set()
        self._last: Progress | None = None
        self._shown_step = -1
        self._drawn_at = float("-inf")

    def show(self, progress: Progress | None) -> None:
        """Show a reading; None moves only the clock."""
        if progress is not None:
            self._note_failures(progress)
            self._last = progress
        if self._last is None:
            return
        if self._console.is_live:
            self._redraw(self._last)
        elif (step := int(self._last.progress * STEPS)) > self._shown_step:
            self._shown_step = step
            self._console.say(self._line(self._last))

    def end(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._console.is_live and self._last is not None:
            self._console.say()

    def _redraw(self, progress: Progress) -> None:
        now = self._clock()
        if progress.finished or now - self._drawn_at >= REDRAW_SECONDS:
            self._drawn_at = now
            self._console.write(_ERASE + self._line(progress))

    def _note_failures(self, progress: Progress) -> None:
        if progress.failures > (self._last.failures if self._last else 0):
            reached = int(progress.progress * self._cells)
            self._failed_cells.add(max(reached - 1, 0))

    def _line(self, progress: Progress) -> str:
        paint = self._console.paint
        seconds = self._clock() - self._started
        reached = int(progress.progress * self._cells)
        marks = "".join("-" if cell in self._failed_cells else "+" for cell in range(reached))
        runs = ("".join(run) for _, run in groupby(marks))
        cells = "".join(paint(run, "red" if "-" in run else "green") for run in runs)
        figures = [
            f"{progress.progress:4.0%}",
            paint(f"{progress.succeeded:,} +", "green"),
            paint(f"{progress.failures:,} -", "red" if progress.failures else "dim"),
            f"of {progress.total:,}",
            f"{progress.ended / seconds if seconds else 0:,.0f}/s",
            f"{seconds:.1f} s",
        ]
        return f"  [{cells}{' ' * (self._cells - reached)}] {'  '.join(figures)}"
