"""The displays of `watch`: bars on a terminal, lines for a pipe or a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import click

from celery_batches_notify.bar import count_parts
from celery_batches_notify.cli.bar import bar_line
from celery_batches_notify.cli.output import Output, one_safe_line
from celery_batches_notify.cli.terminal import Terminal
from celery_batches_notify.model import Progress
from celery_batches_notify.pace import Pace

STEPS = 10
MINUTE_SECONDS = 60.0

Now = Callable[[], datetime]


@dataclass(slots=True, kw_only=True)
class View:
    """A watched batch as the displays know it; `ended` says how it ended, and is empty until then."""

    bid: str
    name: str = ""
    progress: Progress | None = None
    pace: Pace | None = None
    ended: str = ""
    headline: str = ""


class Display(Protocol):
    """Shows batches as they move."""

    def show(self, views: Mapping[str, View]) -> None:
        """Show the batches as they are now."""

    def say(self, line: str) -> None:
        """Show a notice."""


class Bars:
    """A bar for each batch, drawn anew in place; failures scroll by above."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def show(self, views: Mapping[str, View]) -> None:
        """Draw the bars, as many as the terminal has rows for."""
        known = [view for view in views.values() if view.progress is not None]
        known.sort(key=lambda view: bool(view.ended))
        room = max(1, self._terminal.rows - 2)
        lines = [self._line(view) for view in known[:room]]
        if len(known) > room:
            lines[-1:] = [f"and {len(known) - room + 1:,} more"]
        self._terminal.draw(lines)

    def say(self, line: str) -> None:
        """Let the line scroll by."""
        self._terminal.say(one_safe_line(line))

    def leave(self) -> None:
        """Leave the bars where they are."""
        self._terminal.leave()

    def _line(self, view: View) -> str:
        assert view.progress is not None  # noqa: S101 - `show` has seen to that
        terminal = self._terminal
        name, ascii_only = view.name or view.bid, terminal.ascii_only
        pace = [view.pace.rate, view.pace.time_left] if view.pace else []
        notes = [view.ended] if view.ended else pace
        return bar_line(
            name, view.progress, terminal.columns, *notes, ascii_only=ascii_only, paint=terminal.paint
        )


class Lines:
    """For people a line per tenth, per change of state and per minute; for programs one per change.

    Notices go to standard error.
    """

    def __init__(self, out: Output, now: Now, clock: Callable[[], float]) -> None:
        self._out = out
        self._now = now
        self._clock = clock
        self._shown: dict[str, tuple[object, float]] = {}

    def show(self, views: Mapping[str, View]) -> None:
        """Print a line for each batch that has news."""
        for view in views.values():
            if view.progress is None or (view.ended and len(views) == 1):  # that is the last line
                continue
            news = view.progress if self._out.as_json else _milestone(view)
            last, at = self._shown.get(view.bid, (None, 0.0))
            due = not self._out.as_json and not view.ended and self._clock() - at >= MINUTE_SECONDS
            if news != last or due:
                self._shown[view.bid] = news, self._clock()
                self._out.say(
                    describe(view, self._now(), many=len(views) > 1), **fields_of(view, self._now())
                )

    def say(self, line: str) -> None:
        """Print the line to standard error."""
        click.echo(one_safe_line(line), err=True)


class Nothing:
    """Shows nothing; notices go to standard error."""

    def show(self, views: Mapping[str, View]) -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Print the line to standard error."""
        click.echo(one_safe_line(line), err=True)


def describe(view: View, now: datetime, *, many: bool = False) -> str:
    """Say in one line how a batch goes: time, state, figures, and how it ended."""
    words = [f"{now:%H:%M:%S}", *([view.bid] if many else [])]
    if (progress := view.progress) is not None:
        parts = count_parts(progress)
        words += [progress.state, f"{int(progress.progress * 100)}%"]
        words += [f"{parts[name]:,} {name}" for name in ("succeeded", "failing", "dead")]
        words += [f"of {progress.total:,}"]
    return " ".join(words) + (f": {view.ended}" if view.ended else "")


def fields_of(view: View, now: datetime) -> dict[str, Any]:
    """Return the same for a program."""
    fields: dict[str, Any] = {
        "at": now.astimezone(UTC).isoformat(),
        "bid": view.bid,
        "description": view.name,
    }
    if (progress := view.progress) is not None:
        fields |= {
            "state": progress.state,
            "total": progress.total,
            **count_parts(progress),
            "progress": round(progress.progress, 4),
        }
    return {**fields, **(view.pace.as_dict() if view.pace else {}), "ended": view.ended or None}


def _milestone(view: View) -> object:
    progress = view.progress
    return progress and (int(progress.progress * STEPS), progress.state, view.ended)
