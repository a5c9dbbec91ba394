"""Everything that the demo prints: lines, sections, a live progress bar, and what arrived."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from email.message import EmailMessage
from itertools import groupby
from typing import Any, TextIO

from celery_batches_notify.demo.receivers import HOOK_PATH, CaughtHook
from celery_batches_notify.model import BatchStatus, Progress

FAILURES_SHOWN = 12
MAIL_LINES = 26
LINE_CHARACTERS = 100
BACKTRACE_CHARACTERS = 41
CELLS_AT_MOST = 50
CELLS_AT_LEAST = 5
FIGURES_COLUMNS = 56
STEPS = 10
REDRAW_SECONDS = 0.2  # tox passes output on after 0.1 s of silence

_MAIL_HEADERS = ("From", "To", "Subject", "Message-ID")
_HOOK_HEADERS = ("Content-Type", "User-Agent", "webhook-id", "webhook-timestamp", "webhook-signature")
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
_ERASE = "\r\x1b[K"


class Display:
    """Writes to a terminal in colours and in place, to anything else in plain lines.

    Args:
        stream: Where to write.
        environ: `NO_COLOR` and `TERM` are read from here.
        clock: Returns seconds that only grow.
    """

    def __init__(
        self,
        stream: TextIO,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._is_live = stream.isatty() and environ.get("TERM") != "dumb"
        self._has_colours = self._is_live and not environ.get("NO_COLOR")
        columns = shutil.get_terminal_size().columns if self._is_live else 200
        self._cells = max(CELLS_AT_LEAST, min(CELLS_AT_MOST, columns - FIGURES_COLUMNS))
        self._started = clock()
        self._laps: dict[str, float] = {}
        self.start_bar()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour: `bold`, `dim`, `red` or `green`."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._has_colours and text else text

    def say(self, line: str = "") -> None:
        """Write a line."""
        self._write(line + "\n")

    def section(self, title: str, lines: Iterable[str] = ()) -> None:
        """Write a title, and lines below it."""
        self.say("\n" + self.paint(title, "bold"))
        for line in lines:
            self.say(line)

    def lap(self, name: str) -> None:
        """Note that a phase has ended."""
        self._laps[name] = self.elapsed - sum(self._laps.values())

    def show_laps(self) -> None:
        """Write how long each phase took."""
        laps = " · ".join(f"{name} {seconds:.1f} s" for name, seconds in self._laps.items())
        self.section("Where the time went", [f"  {laps}"])

    def start_bar(self) -> None:
        """Begin a new progress bar."""
        self._bar_started = self._clock()
        self._failed_cells: set[int] = set()
        self._failures = 0
        self._step = -1
        self._drawn_at = float("-inf")

    def show(self, progress: Progress) -> None:
        """Show a reading: in place on a terminal, elsewhere as a line per tenth."""
        if progress.failures > self._failures:
            self._failures = progress.failures
            self._failed_cells.add(max(int(progress.progress * self._cells) - 1, 0))
        now, step = self._clock(), int(progress.progress * STEPS)
        if self._is_live and (progress.finished or now - self._drawn_at >= REDRAW_SECONDS):
            self._drawn_at = now
            self._write(_ERASE + self._bar(progress) + ("\n" if progress.finished else ""))
        elif not self._is_live and step > self._step:
            self._step = step
            self.say(self._bar(progress))

    def show_status(self, status: BatchStatus) -> None:
        """Write a batch's status as a compact table."""
        times = [f"created {status.created_at:%H:%M:%S} UTC"]
        for event in ("death", "complete", "finish", "success"):
            if at := getattr(status, f"{event}_at"):
                times.append(f"{event} +{(at - status.created_at).total_seconds():.1f} s")
        rows = {
            "batch": f"{status.bid}  {status.description}",
            "state": f"{status.state}: {_explain_state(status)}",
            "tasks": f"{status.total:,} · succeeded {status.succeeded:,} · dead {status.dead:,} · "
            f"pending {status.pending:,}",
            "times": " · ".join(times),
            "callbacks": describe_callbacks(status),
        }
        self.section("Its status", (f"  {name:<9}  {text}" for name, text in rows.items()))

    def show_failures(self, failures: Mapping[str, str]) -> None:
        """Write the names of modules that failed, each with its error."""
        lines = [" ".join(f"  - {name}  {failures[name]}".split("\n")) for name in sorted(failures)]
        shown = [_clip(line) for line in lines[:FAILURES_SHOWN]]
        more = [f"  - … and {len(lines) - FAILURES_SHOWN} more"] if len(lines) > FAILURES_SHOWN else []
        self.section("What failed, for real", shown + more)

    def show_sum(self, total: Mapping[str, int]) -> None:
        """Write what the callback task added up."""
        counts = " · ".join(f"{total.get(name, 0):,} {name}" for name in ("lines", "functions", "classes"))
        line = f"  {total['modules']:,} modules · {total.get('bytes', 0) / 1e6:,.1f} MB · {counts}"
        self.section("What its callback task added up", [line])

    def show_mail(self, mail: EmailMessage) -> None:
        """Write a mail's headers and the beginning of its plain text, as they arrived."""
        part = mail.get_body(("plain",))
        lines = str(part.get_content() if part else "").rstrip().splitlines()
        more = [f"… and {len(lines) - MAIL_LINES} more lines"] if len(lines) > MAIL_LINES else []
        headers = [f"{name}: {mail[name]}" for name in _MAIL_HEADERS]
        self._show_message("The mail that arrived", [*headers, "", *lines[:MAIL_LINES], *more])

    def show_hook(self, hook: CaughtHook) -> None:
        """Write a webhook's headers, and its JSON with the first failure only."""
        found = {name.lower(): value for name, value in hook.headers.items()}
        headers = [f"{name}: {found[name.lower()]}" for name in _HOOK_HEADERS if name.lower() in found]
        content = json.dumps(_shorten(hook.content or {}), indent=2, ensure_ascii=False).splitlines()
        title = "The webhook that arrived, its signature checked"
        self._show_message(title, [f"POST {HOOK_PATH}", *headers, "", *content])

    def _show_message(self, title: str, lines: Iterable[str]) -> None:
        self.section(title, (f"  │ {line}".rstrip() for line in lines))

    def _bar(self, progress: Progress) -> str:
        seconds = self._clock() - self._bar_started
        reached = int(progress.progress * self._cells)
        signs = "".join("-" if cell in self._failed_cells else "+" for cell in range(reached))
        runs = ("".join(run) for _, run in groupby(signs))
        cells = "".join(self.paint(run, "red" if "-" in run else "green") for run in runs)
        figures = [
            f"{progress.progress:4.0%}",
            self.paint(f"{progress.succeeded:,} +", "green"),
            self.paint(f"{progress.failures:,} -", "red" if progress.failures else "dim"),
            f"of {progress.total:,}",
            f"{progress.ended / seconds if seconds else 0:,.0f}/s",
            f"{seconds:.1f} s",
        ]
        return f"  [{cells}{' ' * (self._cells - reached)}] {'  '.join(figures)}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def describe_callbacks(status: BatchStatus) -> str:
    """Return each callback's event, target and state."""
    return " · ".join(f"{c.event} → {c.target}: {c.state.replace('_', ' ')}" for c in status.callbacks)


def _explain_state(status: BatchStatus) -> str:
    if not status.dead:
        return "everything has run and succeeded"
    tasks = "task has" if status.dead == 1 else "tasks have"
    return f"everything has run, and {status.dead:,} {tasks} failed for good"


def _shorten(content: Mapping[str, Any]) -> dict[str, Any]:
    failures: list[Any] = list(content.get("failure_info", ()))
    first = [
        {**failure, "backtrace": _clip(failure["backtrace"] or "", BACKTRACE_CHARACTERS)}
        for failure in failures[:1]
    ]
    more = [f"… and {len(failures) - 1} more"] if len(failures) > 1 else []
    return {**content, "failure_info": first + more}


def _clip(text: str, limit: int = LINE_CHARACTERS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
