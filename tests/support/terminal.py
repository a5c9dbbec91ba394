"""The `batch` commands run in this process, on pipes or on a terminal that the test reads as people do."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import select
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TextIO

import pyte
import pytest
from celery import Celery
from celery.bin.base import CLIContext

from celery_batches_notify import Batch
from celery_batches_notify.cli import batch
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.store.recorded import Recorded
from tests.support.servers import wait_until

ROWS = 24


class Screen:
    """A terminal: what was written to it, and what a person sees.

    One of 0 columns does not know its size, and shows 80 columns.
    """

    def __init__(self, columns: int) -> None:
        self.master, slave = os.openpty()
        rows = ROWS if columns else 0
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.slave = os.fdopen(slave, "r+b", buffering=0)
        self.stream = io.TextIOWrapper(self.slave, encoding="utf-8", write_through=True)  # type: ignore[type-var]
        self.raw = b""
        self._seen = pyte.HistoryScreen(columns or 80, ROWS, history=10_000)
        self._feed = pyte.ByteStream(self._seen)
        self._lock = threading.Lock()  # pyte makes a line that is read, so a writer would lose its own
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        """All lines from the first on, those that have scrolled away too."""
        with self._lock:
            gone = ["".join(row[x].data for x in range(self._seen.columns)) for row in self._seen.history.top]
            shown = [line.rstrip() for line in [*gone, *self._seen.display]]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.master, text.encode())

    def wait_for(self, words: str) -> None:
        """Wait until words stand on the screen."""
        wait_until(lambda: any(words in line for line in self.lines), what=f"{words!r} in {self.lines}")

    def close(self) -> None:
        """Close it, once all that was written is read."""
        self._over.set()
        self._reader.join()
        self.stream.close()
        os.close(self.master)

    def _read(self) -> None:
        while True:
            over = self._over.is_set()
            ready, _, _ = select.select([self.master], [], [], 0.02)
            if ready:
                self.raw += (part := os.read(self.master, 65536))
                with self._lock:
                    self._feed.feed(part)
            elif over:
                return


@dataclass(kw_only=True)
class Ran:
    """How a command ended: its exit code, and what it wrote where there was no terminal."""

    code: int = -1
    stdout: str = ""
    stderr: str = ""
    screen: Screen | None = None

    @property
    def records(self) -> list[dict[str, Any]]:
        """What was written as JSON lines."""
        return [json.loads(line) for line in self.stdout.splitlines()]


@dataclass(kw_only=True)
class Commands:
    """Runs commands of one app.

    `terminal` names the streams that are a terminal: any of `stdin`, `stdout` and `stderr`.
    """

    app: Celery
    monkeypatch: pytest.MonkeyPatch

    def __call__(
        self,
        *words: str,
        terminal: tuple[str, ...] = (),
        columns: int = 80,
        meanwhile: Callable[[Any], object] | None = None,
        encoding: str = "utf-8",
        **environ: str,
    ) -> Ran:
        """Run `celery batch …`; `meanwhile` runs beside it, and is given the terminal."""
        ran = Ran()
        if terminal:
            ran.screen = Screen(columns)
        pipes = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
        environ = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "", "NO_COLOR": "", **environ}
        with contextlib.ExitStack() as left, self.monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            patch.delenv("COLUMNS", raising=False)
            for name in ("stdin", "stdout", "stderr"):
                stream = ran.screen.stream if ran.screen and name in terminal else pipes.get(name)
                patch.setattr(sys, name, stream or io.StringIO())
            if meanwhile is not None:
                left.enter_context(beside(meanwhile, ran.screen))
            ran.code = self._run(words)
        if ran.screen is not None:
            ran.screen.close()
        ran.stdout, ran.stderr = (_written(pipe) for pipe in pipes.values())
        return ran

    def of(self, app: Celery) -> Commands:
        """Run those of another app."""
        return replace(self, app=app)

    def _run(self, words: tuple[str, ...]) -> int:
        context = CLIContext(app=self.app, no_color=False, workdir=None)
        try:
            batch.main(list(words), "celery batch", obj=context)
        except SystemExit as exc:
            return int(exc.code or 0)
        return 0


@contextlib.contextmanager
def beside(happening: Callable[[Any], object], given: object) -> Iterator[None]:
    """Let something happen in a thread beside the block; what it raises is raised at the end."""
    raised: list[BaseException] = []

    def happen() -> None:
        try:
            happening(given)
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    for exc in raised:
        raise exc


@dataclass(kw_only=True)
class Made:
    """A sealed batch, whose members the test reports."""

    batch: Batch
    ids: list[str]

    @property
    def bid(self) -> str:
        """The batch's id."""
        return self.batch.bid

    def report(
        self,
        state: State,
        *indices: int,
        failure: Failure | None = None,
        attempt: int = 1,
        resend: str = "",
    ) -> Recorded:
        """Report these members, or all."""
        for index in indices or range(len(self.ids)):
            member = Membership(bid=self.bid, index=index, task_id=self.ids[index])
            outcome = Outcome(state=state, failure=failure, attempt=attempt, resend=resend)
            recorded = self.batch._engine.store.record_outcome(member, outcome)
        return recorded


def make_batch(app: Celery, members: int, description: str = "Import rows", **options: Any) -> Made:
    """Make a sealed batch whose messages nobody takes."""
    made = Batch(description, app=app, **options)
    results = made.add(*(app.signature("proj.ok") for _ in range(members)))
    return Made(batch=made, ids=[result.id for result in results])


def fail(task_id: str = "0" * 8, message: str = "no such row", task: str = "proj.import_row") -> Failure:
    """A failure as a member reports it."""
    return Failure(
        task_id=task_id, task=task, error_class="KeyError", error_message=message, backtrace=None, retries=0
    )


def _written(pipe: TextIO) -> str:
    pipe.flush()
    value = pipe.buffer.getvalue()  # type: ignore[attr-defined]
    return str(value.decode(pipe.encoding))
