"""Run the two batches of the demo, follow them live, and check what they sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery_batches_notify import Batch, BatchesError, BatchStatus, Progress
from celery_batches_notify.demo.app import ADD_UP, COUNT_BYTES, MEASURE, SUM_FILE
from celery_batches_notify.demo.display import Display, describe_callbacks
from celery_batches_notify.demo.environment import Environment
from celery_batches_notify.demo.receivers import Catch, CaughtHook, T

TICK_SECONDS = 0.1
STALL_SECONDS = 60.0
ARRIVAL_SECONDS = 30.0


class DemoFailed(BatchesError):
    """The demo did not see something that the package promises; the text says what."""


def measure_modules(
    display: Display, here: Environment, modules: Sequence[Path], root: Path, source: str
) -> list[Path]:
    """Run the first batch, one task per module, and show what it sent. Return the modules that failed.

    Raises:
        DemoFailed: It did not end, or something did not arrive.
    """
    display.section("First batch: one task per module")
    display.start_bar()
    batch = Batch(f"Measure {len(modules):,} modules of {source}", tags=["demo"], app=here.app)
    batch.on("complete", "email").on("finish", "webhook").on("finish", here.app.signature(ADD_UP))
    task = here.app.tasks[MEASURE]
    with batch:
        path_of = {task.delay(str(path)).id: path for path in modules}
    display.lap("sending")
    follow_to_end(display, here, batch)
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
    failed = {path_of[f.task_id]: f"{f.error_class}: {f.error_message}" for f in status.failure_info}
    display.show_status(status)
    if failed:
        display.show_failures({_name(path, root): error for path, error in failed.items()})
    display.show_sum(total)
    display.show_mail(mail)
    display.show_hook(hook)
    return sorted(failed)


def count_bytes(display: Display, here: Environment, modules: Sequence[Path]) -> None:
    """Run the second batch over the modules that failed; every task succeeds. Raises as the first does."""
    display.section(f"Second batch: count the bytes of the {len(modules):,} that failed")
    display.start_bar()
    batch = Batch(f"Count the bytes of {len(modules):,} modules", tags=["demo"], app=here.app)
    batch.on("success", "webhook").map(here.app.tasks[COUNT_BYTES], [str(path) for path in modules])
    follow_to_end(display, here, batch)
    hook = wait_for(here.hooks, _is_about(batch, "success"), "the second batch's webhook")
    status = wait_for_deliveries(here, batch)
    display.say(f"  state {status.state}: {status.succeeded:,} of {status.total:,} succeeded")
    display.say(f"  and its webhook arrived: event success, webhook-id {hook.headers['webhook-id']}")
    display.lap("second batch")


def follow_to_end(display: Display, here: Environment, batch: Batch) -> None:
    """Show the progress of a batch until it has finished.

    Raises:
        DemoFailed: The worker ended, or the batch did not move for a minute, or cannot be read.
    """
    readings: list[Progress] = []
    reader = threading.Thread(target=_read, args=(batch, readings), name="follow", daemon=True)
    reader.start()
    seen, moved_at = 0, time.monotonic()
    while reader.is_alive():
        reader.join(TICK_SECONDS)
        if len(readings) > seen:
            seen, moved_at = len(readings), time.monotonic()
        if readings and not readings[-1].finished:
            display.show(readings[-1])
        if here.worker.poll() is not None:
            raise DemoFailed("the worker ended before the batch did")
        if time.monotonic() - moved_at > STALL_SECONDS:
            raise DemoFailed(f"the batch did not move for {STALL_SECONDS:.0f} s")
    if not readings or not readings[-1].finished:
        raise DemoFailed("the batch could not be followed to its end")
    display.show(readings[-1])


def _read(batch: Batch, readings: list[Progress]) -> None:
    with suppress(BatchesError):  # `follow_to_end` reports it
        for progress in batch.follow():
            readings.append(progress)


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
            raise DemoFailed(f"not every callback was delivered: {describe_callbacks(status)}")
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


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def _is_about(batch: Batch, event: str) -> Callable[[CaughtHook], bool]:
    def check(hook: CaughtHook) -> bool:
        if hook.content is None:
            raise DemoFailed(f"a webhook arrived that is not genuine: {hook.fault}")
        return (hook.content["bid"], hook.content["event"]) == (batch.bid, event)

    return check
