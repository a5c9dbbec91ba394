"""Run the two batches of the demo, follow them live, and check what they sent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from celery_batches_notify import Batch, BatchesError, BatchStatus, Progress
from celery_batches_notify.cli.display import View
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.output import Output
from celery_batches_notify.cli.show import show_batch
from celery_batches_notify.cli.watch import Watch, make_displays
from celery_batches_notify.demo.app import ADD_UP, COUNT_BYTES, MEASURE, SUM_FILE
from celery_batches_notify.demo.display import Display
from celery_batches_notify.demo.environment import Environment
from celery_batches_notify.demo.receivers import Catch, CaughtHook, T
from celery_batches_notify.model import Event

TICK_SECONDS = 0.1
STALL_SECONDS = 60.0
ARRIVAL_SECONDS = 30.0


class DemoFailed(BatchesError):
    """The demo did not see something that the package promises; the text says what."""


def measure_modules(display: Display, here: Environment, modules: Sequence[Path], source: str) -> list[Path]:
    """Run the first batch, one task per module, and show what it sent. Return the modules that failed.

    Raises:
        DemoFailed: It did not end, or something did not arrive.
    """
    display.section("First batch: one task per module, as `batch watch` shows it")
    batch = Batch(f"Measure {len(modules):,} modules of {source}", tags=["demo"], app=here.app)
    batch.on("complete", "email").on("finish", "webhook").on("finish", here.app.signature(ADD_UP))
    task = here.app.tasks[MEASURE]
    with batch:
        path_of = {task.delay(str(path)).id: path for path in modules}
    display.lap("sending")
    watch_to_end(here, batch)
    display.lap("running")
    mail = wait_for(here.mail, lambda _: True, "the mail")
    hook = wait_for(here.hooks, _is_about(batch, "finish"), "the webhook")
    status = wait_for_deliveries(here, batch)
    total = read_sum(here, batch)
    display.lap("messages")
    if not status.succeeded + status.dead == status.total == len(modules):
        raise DemoFailed(f"{len(modules)} modules went in, but the batch counts {status.total}")
    if status.succeeded != total["modules"]:
        raise DemoFailed(f"{total['modules']} modules were measured, but the batch says {status.succeeded}")
    display.section("Its status, as `batch show` prints it")
    show_batch(here.app, Output(sys.stdout), bid=batch.bid, members=None)
    display.show_sum(total)
    display.show_mail(mail)
    display.show_hook(hook)
    return sorted(path_of[failure.task_id] for failure in status.failure_info)


def count_bytes(display: Display, here: Environment, modules: Sequence[Path]) -> None:
    """Run the second batch over the modules that failed; every task succeeds. Raises as the first does."""
    display.section(f"Second batch: count the bytes of the {len(modules):,} that failed")
    batch = Batch(f"Count the bytes of {len(modules):,} modules", tags=["demo"], app=here.app)
    batch.on("success", "webhook").map(here.app.tasks[COUNT_BYTES], [str(path) for path in modules])
    watch_to_end(here, batch)
    hook = wait_for(here.hooks, _is_about(batch, "success"), "the second batch's webhook")
    status = wait_for_deliveries(here, batch)
    if status.succeeded != len(modules):
        raise DemoFailed(f"{len(modules)} tasks should have succeeded, but the batch says {status.succeeded}")
    display.say(f"  its webhook arrived: event success, webhook-id {hook.headers['webhook-id']}")
    display.lap("second batch")


class Guard:
    """Ends the watch over a batch whose worker has ended, or that stands still."""

    def __init__(self, worker: subprocess.Popen[bytes]) -> None:
        self._worker = worker
        self._last: tuple[Progress | None, float] = None, time.monotonic()

    def show(self, views: Mapping[str, View]) -> None:
        """Raise `DemoFailed` if nothing more is to be expected."""
        if self._worker.poll() is not None:
            raise DemoFailed("the worker ended before the batch did")
        (view,), (last, at) = views.values(), self._last
        if view.progress != last:
            self._last = view.progress, time.monotonic()
        elif time.monotonic() - at > STALL_SECONDS:
            raise DemoFailed(f"the batch did not move for {STALL_SECONDS:.0f} s")

    def say(self, line: str) -> None:
        """Leave notices to the display."""


def watch_to_end(here: Environment, batch: Batch) -> None:
    """Do what `batch watch` does until the batch has finished.

    Raises:
        DemoFailed: The worker ended, or the batch did not move for a minute.
    """
    out = Output(sys.stdout)
    bars, displays = make_displays(out, "auto")
    watch = Watch(
        engine_of(here.app),
        [batch.bid],
        [*displays, Guard(here.worker)],
        until=Event.FINISH,
        bars=bars,
    )
    code = watch.run(None)
    if bars:
        bars.leave()
    watch.end(out, code)


def wait_for(catch: Catch[T], wanted: Callable[[T], bool], name: str) -> T:
    """Return what a receiver caught. Raises `DemoFailed` if it does not arrive."""
    caught = catch.wait_for(wanted, ARRIVAL_SECONDS)
    if caught is None:
        raise DemoFailed(f"{name} did not arrive within {ARRIVAL_SECONDS:.0f} s")
    return caught


def wait_for_deliveries(here: Environment, batch: Batch) -> BatchStatus:
    """Return the status once every callback is delivered. Raises `DemoFailed` if one is not."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while True:
        status = batch.status()
        states = {callback.state for callback in status.callbacks}
        if states == {"delivered"}:
            return status
        if "given_up" in states or time.monotonic() > deadline or here.worker.poll() is not None:
            raise DemoFailed(f"not every callback was delivered: {', '.join(sorted(states))}")
        time.sleep(TICK_SECONDS)


def read_sum(here: Environment, batch: Batch) -> dict[str, int]:
    """Return what the callback task wrote. Raises `DemoFailed` if it wrote nothing."""
    try:
        content: dict[str, Any] = json.loads(Path(here.run.directory, SUM_FILE).read_text("utf-8"))
    except FileNotFoundError:
        raise DemoFailed("the callback task left no sum") from None
    if content.pop("bid") != batch.bid:
        raise DemoFailed("the callback task got the status of another batch")
    return content


def _is_about(batch: Batch, event: str) -> Callable[[CaughtHook], bool]:
    def check(hook: CaughtHook) -> bool:
        if hook.content is None:
            raise DemoFailed(f"a webhook arrived that is not genuine: {hook.fault}")
        return (hook.content["bid"], hook.content["event"]) == (batch.bid, event)

    return check
