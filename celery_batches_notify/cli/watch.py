"""Watching batches until an event: how each ends, and the exit code."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import inf

from celery import Celery

from celery_batches_notify.cli.display import Bars, Display, Lines, Nothing, View, describe, fields_of
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.exit_codes import ExitCode, code_of
from celery_batches_notify.cli.observed_pace import ObservedPace
from celery_batches_notify.cli.output import Output, error_line
from celery_batches_notify.cli.terminal import Terminal, can_draw
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import BatchesError, InvalidCall, NoSuchBatch, StoreUnavailable
from celery_batches_notify.headline import describe as describe_status
from celery_batches_notify.headline import headline, name_of
from celery_batches_notify.model import BatchStatus, Event, Failure, Progress
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.follow_many import FollowMany
from celery_batches_notify.store.followers import Answer
from celery_batches_notify.store.parsing import Reading, parse_curve, parse_status

TICK_SECONDS = 1.0
PAUSE_SECONDS = 0.1  # a terminal is drawn ten times a second at most
FAILURES_AT_ONCE = 10
FAILURE_CHARACTERS = 200

WORST_FIRST = (ExitCode.TIMED_OUT, ExitCode.AWAY, ExitCode.NO_SUCH_BATCH, ExitCode.OTHERWISE)


def watch_batches(
    app: Celery,
    out: Output,
    *,
    bids: Sequence[str],
    tag: str | None,
    until: str,
    timeout: timedelta | None,
    progress: str,
) -> int:
    """Watch batches until an event has come, or cannot come any more; return the exit code.

    Raises:
        InvalidCall: Neither a batch nor a tag is given, or both.
        NoSuchBatch: The batch does not exist.
        StoreUnavailable: The store is away at the start; later it is waited for.
    """
    engine = engine_of(app)
    if bool(bids) == bool(tag):
        raise InvalidCall("name the batches to watch: give BIDs, or --tag")
    bids = list(dict.fromkeys(bids)) or find_unfinished(engine, tag)
    out.as_json |= progress == "json"
    bars, displays = make_displays(out, progress)
    watch = Watch(engine, bids, displays, until=Event(until), bars=bars)
    if bars:  # after Ctrl-Z and fg the shell's lines stand above the cursor
        signal.signal(signal.SIGCONT, lambda *_: bars.leave())  # safety: lines-of-the-shell
    try:
        code = watch.run(timeout.total_seconds() if timeout else None)
    except KeyboardInterrupt:
        if bars:
            bars.leave()
        named = " ".join(bids) if tag is None else f"--tag {tag}"
        Nothing().say(f"the batch goes on; watch it again with: celery -A … batch watch {named}")
        raise
    if bars:
        bars.leave()
    return watch.end(out, code)


def find_unfinished(engine: Engine, tag: str | None) -> list[str]:
    """Return the batches with this tag that have not ended, newest first.

    Raises:
        NoSuchBatch: All have ended, or no batch has the tag.
    """
    tagged = (each for each in engine.store.list_outlines(standings=True) if tag in each.tags)
    bids = [each.bid for each in tagged if each.standing and not each.standing.has_ended]
    if not bids:
        raise NoSuchBatch(f"no batch with the tag {tag!r} is unfinished")
    return bids


def make_displays(out: Output, progress: str) -> tuple[Bars | None, list[Display]]:
    """Choose the displays; return the bars, if they are among them, and all displays.

    Bars go to standard output, or to standard error if that is the terminal of the two, so that a pipe
    takes lines and somebody still sees the bars.
    """
    stream = None
    if progress == "tty":
        stream = sys.stdout if sys.stdout.isatty() and not out.as_json else sys.stderr
    elif progress == "auto" and (not out.as_json or not sys.stdout.isatty()):
        stream = next((each for each in (sys.stdout, sys.stderr) if can_draw(each)), None)
    bars = Bars(Terminal(stream)) if stream else None
    lines = [] if progress == "quiet" or stream is sys.stdout else [Lines(out, datetime.now, time.monotonic)]
    return bars, [each for each in (bars, *lines) if each] or [Nothing()]


class Watch:
    """Follows batches and shows them.

    Args:
        engine: The app's.
        bids: The batches.
        displays: Show the batches; the first one also prints notices.
        until: The event that each is watched for.
        bars: The display that shows failures too, or None.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        engine: Engine,
        bids: Sequence[str],
        displays: Sequence[Display],
        *,
        until: Event,
        bars: Bars | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._displays = displays
        self._until = until
        self._bars = bars
        self._clock = clock
        self._views = {bid: View(bid=bid) for bid in bids}
        self._codes: dict[str, ExitCode] = {}
        self._failures = {bid: FailureNews(clock) for bid in bids}
        self._paces = {bid: ObservedPace(clock) for bid in bids}
        self._is_away = False

    def run(self, seconds: float | None) -> ExitCode:
        """Watch until nothing is left to wait for, or the time is up; return the worst exit code."""
        deadline = inf if seconds is None else self._clock() + seconds
        with FollowMany(self._engine.store, list(self._views), self._clock) as followed:
            while len(self._codes) < len(self._views):
                if (left := deadline - self._clock()) <= 0:
                    self._time_out(seconds)
                    break
                news = followed.wait(min(left, TICK_SECONDS))
                for bid, answer in news.items():
                    self._take(self._views[bid], answer)
                self._show()
                if news and len(self._codes) < len(self._views):
                    time.sleep(min(PAUSE_SECONDS, max(0.0, deadline - self._clock())))
        self._show()
        return next((code for code in WORST_FIRST if code in self._codes.values()), ExitCode.DONE)

    def end(self, out: Output, code: ExitCode) -> int:
        """Print the last line."""
        now, views = datetime.now().astimezone(), list(self._views.values())
        if len(views) == 1:
            view = views[0]
            has_come = code in (ExitCode.DONE, ExitCode.OTHERWISE)
            # If no display prints lines, standard output is the terminal that has the figures.
            is_seen = self._bars and not any(isinstance(each, Lines) for each in self._displays)
            words = view.headline if has_come and is_seen else describe(view, now)
            return out.end(words, code, **fields_of(view, now), headline=view.headline or None)
        states = Counter(view.progress.state if view.progress else "gone" for view in views)
        words = ", ".join(f"{count:,} {state}" for state, count in states.items())
        at = now.astimezone(UTC).isoformat()
        return out.end(f"{now:%H:%M:%S} {len(views):,} batches: {words}", code, at=at, states=states)

    def _take(self, view: View, answer: Answer) -> None:
        """Note a reading of a batch, and whether it ends the watch over the batch."""
        if isinstance(answer, Reading):
            if self._is_away:
                self._is_away = False
                self._displays[0].say("the store is back")
            view.progress = answer.progress
            self._paces[view.bid].see(answer.progress)
            if (code := judge(answer, self._until)) is not None:
                self._end(view, code)
            elif not view.name:
                self._read_status(view)
        elif isinstance(answer, StoreUnavailable) and view.progress is not None:
            if not self._is_away:
                self._is_away = True
                self._displays[0].say(f"waiting for the store: {answer}")
        elif isinstance(answer, BatchesError) and (view.progress is not None or len(self._views) > 1):
            gone = isinstance(answer, NoSuchBatch) and view.progress is not None
            view.ended = "it was deleted, or has expired" if gone else error_line(answer)
            view.headline = ""
            self._codes[view.bid] = code_of(answer)
        else:
            raise answer

    def _end(self, view: View, code: ExitCode) -> None:
        """Note that the event has come, or cannot come."""
        self._codes[view.bid] = code
        if (status := self._read_status(view)) is not None:
            view.ended = describe_status(status)
        elif view.progress is not None:
            view.ended = view.headline = view.progress.state

    def _time_out(self, seconds: float | None) -> None:
        for view in self._views.values():
            if view.bid not in self._codes:
                self._codes[view.bid] = ExitCode.AWAY if self._is_away else ExitCode.TIMED_OUT
                away = "the store is away" if self._is_away else f"no {self._until} within {seconds:g} s"
                view.ended = away

    def _show(self) -> None:
        for view in self._views.values() if self._bars else ():
            if view.progress is not None and self._failures[view.bid].is_due(view.progress):
                self._read_status(view)
        for view in self._views.values():
            view.pace = self._paces[view.bid].measure()
        for display in self._displays:
            display.show(self._views)

    def _read_status(self, view: View) -> BatchStatus | None:
        """Read a batch's name, headline and failures; None if the store is away or the batch just went."""
        try:
            snapshot = self._engine.store.read_snapshot(view.bid)
        except (NoSuchBatch, StoreUnavailable):
            return None
        with corrupt_errors(view.bid):
            status = parse_status(snapshot, self._engine.settings.stall_after)
            curve = parse_curve(snapshot)
        self._paces[view.bid].begin(status, curve, snapshot.now)
        view.name, view.headline = name_of(status), headline(status)
        if self._bars is not None:
            for line in self._failures[view.bid].take(status):
                self._bars.say(line)
        return status


class FailureNews:
    """Which failures of one batch have not been shown yet."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: set[Failure] = set()
        self._count = 0
        self._read_at = -inf

    def is_due(self, progress: Progress) -> bool:
        """Whether there may be some, and they were not read just now."""
        return progress.failures > self._count and self._clock() - self._read_at >= TICK_SECONDS

    def take(self, status: BatchStatus) -> list[str]:
        """Return a line for each that is new, of the last ones only if they are many."""
        self._count, self._read_at = status.failures, self._clock()
        news = [failure for failure in status.failure_info if failure not in self._seen]
        self._seen = set(status.failure_info)
        lines = [describe_failure(failure) for failure in news[-FAILURES_AT_ONCE:]]
        more = len(news) - len(lines)
        return [f"and {more:,} failures before: batch show {status.bid} --failures"] * bool(more) + lines


def judge(reading: Reading, until: Event) -> ExitCode | None:
    """Return the exit code if the event has come or cannot come; None if there is more to wait for."""
    if until is Event.FINISH:
        succeeded = Event.SUCCESS in reading.fired
        return (ExitCode.DONE if succeeded else ExitCode.OTHERWISE) if reading.is_over else None
    if until in reading.fired:
        return ExitCode.DONE
    return ExitCode.OTHERWISE if reading.is_over else None


def describe_failure(failure: Failure) -> str:
    """Say in one line which task failed, when and how."""
    at = f"{failure.failed_at.astimezone():%H:%M:%S}" if failure.failed_at else ""
    task = f"{failure.task.rpartition('.')[2]}[{failure.task_id[:8]}]"
    return f"{at} failed {task} {failure.error_class}: {failure.error_message}"[:FAILURE_CHARACTERS]
