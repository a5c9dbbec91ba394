"""What the demo does on its stage: two batches, followed live, and all that they announce."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar

from celery_batches_notify import Batch, BatchesError, BatchStatus, Progress
from celery_batches_notify.demo.app import ADD_UP, COUNT_BYTES, MEASURE
from celery_batches_notify.demo.environment import Stage
from celery_batches_notify.demo.measuring import Sum
from celery_batches_notify.demo.receivers import CaughtHook
from celery_batches_notify.demo.surroundings import SUM_FILE

TICK_SECONDS = 0.1
STALL_SECONDS = 60.0
ARRIVAL_SECONDS = 30.0

T = TypeVar("T")
Show = Callable[[Progress | None], None]


class DemoFailed(BatchesError):
    """Something the demo promises did not happen; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The first batch as it ended, what it announced, and what its callback task made of it.

    Attributes:
        unread: The modules that failed, with their errors.
    """

    status: BatchStatus
    unread: dict[Path, str]
    mail: EmailMessage
    hook: CaughtHook
    total: Sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The second batch as it ended, and what it announced."""

    status: BatchStatus
    hook: CaughtHook


def measure_modules(
    stage: Stage, modules: Sequence[Path], what: str, show: Show, lap: Callable[[str], None]
) -> Measured:
    """Run the first batch: one task per module. Some fail for good, as they should.

    Args:
        stage: Where.
        modules: The files.
        what: The batch's description.
        show: Gets every reading of the batch.
        lap: Is told the name of each phase when it is over.

    Raises:
        DemoFailed: It did not end, or something did not arrive.
    """
    batch = Batch(what, tags=["demo"], app=stage.app)
    batch.on("complete", "email").on("finish", "webhook").on("finish", stage.app.signature(ADD_UP))
    task = stage.app.tasks[MEASURE]
    with batch:
        path_of = {task.delay(str(path)).id: path for path in modules}
    lap("sending")
    follow_to_end(stage, batch, show)
    lap("running")
    mail = arrived(stage, stage.mail.wait_for, lambda _: True, "the mail")
    hook = arrived(stage, stage.hooks.wait_for, _is_about(batch, "finish"), "the webhook")
    status = wait_for_deliveries(stage, batch)
    total = read_sum(stage, batch)
    lap("messages")
    check_counts(status, len(modules), total)
    unread = {path_of[f.task_id]: f"{f.error_class}: {f.error_message}" for f in status.failure_info}
    return Measured(status=status, unread=unread, mail=mail, hook=hook, total=total)


def count_bytes(stage: Stage, modules: Sequence[Path], what: str, show: Show) -> Counted:
    """Run the second batch, all of which succeeds, over what could not be parsed. Raises as the first."""
    batch = Batch(what, tags=["demo"], app=stage.app).on("success", "webhook")
    batch.map(stage.app.tasks[COUNT_BYTES], [str(path) for path in modules])
    follow_to_end(stage, batch, show)
    hook = arrived(stage, stage.hooks.wait_for, _is_about(batch, "success"), "the second batch's webhook")
    return Counted(status=wait_for_deliveries(stage, batch), hook=hook)


def follow_to_end(stage: Stage, batch: Batch, show: Show) -> None:
    """Show every reading of a batch until it has finished, and the passing time in between.

    Raises:
        DemoFailed: The worker ended, or nothing moved for a minute.
    """
    finished = False
    moved_at = time.monotonic()
    for reading in _read_in_background(batch):
        if reading is not None:
            moved_at, finished = time.monotonic(), reading.finished
        elif stage.worker.poll() is not None:
            raise DemoFailed("the worker ended before the batch did")
        elif time.monotonic() - moved_at > STALL_SECONDS:
            raise DemoFailed(f"nothing moved for {STALL_SECONDS:.0f} s")
        show(reading)
    if not finished:
        raise DemoFailed("the batch was gone before it finished")


def _read_in_background(batch: Batch) -> Iterator[Progress | None]:
    """Yield each reading, and None now and then: this thread must see Ctrl-C and a worker that ended."""
    readings: queue.SimpleQueue[Progress | BatchesError | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for progress in batch.follow():
                readings.put(progress)
            readings.put(None)
        except BatchesError as exc:
            readings.put(exc)

    threading.Thread(target=read, name="follow", daemon=True).start()
    while True:
        try:
            reading = readings.get(timeout=TICK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if reading is None:
            return
        if isinstance(reading, BatchesError):
            raise reading
        yield reading


def arrived(
    stage: Stage,
    wait_for: Callable[[Callable[[T], bool], float], T | None],
    wanted: Callable[[T], bool],
    name: str,
) -> T:
    """Return what a catcher waits for. Raises `DemoFailed` if it does not arrive."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while time.monotonic() < deadline:
        if (caught := wait_for(wanted, TICK_SECONDS)) is not None:
            return caught
        if stage.worker.poll() is not None:
            raise DemoFailed(f"the worker ended before {name} arrived")
    raise DemoFailed(f"{name} did not arrive within {ARRIVAL_SECONDS:.0f} s")


def wait_for_deliveries(stage: Stage, batch: Batch) -> BatchStatus:
    """Return the status once every callback that was due is delivered. Raises `DemoFailed` if one is not."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while True:
        status = batch.status()
        states = {callback.state for callback in status.callbacks}
        if states == {"delivered"}:
            return status
        if "given_up" in states or time.monotonic() > deadline or stage.worker.poll() is not None:
            raise DemoFailed(f"not every callback was delivered: {describe_callbacks(status)}")
        time.sleep(TICK_SECONDS)


def describe_callbacks(status: BatchStatus) -> str:
    """Say of each callback how far it has come."""
    return " · ".join(f"{c.event} → {c.target}: {c.state.replace('_', ' ')}" for c in status.callbacks)


def read_sum(stage: Stage, batch: Batch) -> Sum:
    """Read what the callback task wrote. Raises `DemoFailed` if it did not."""
    file = Path(stage.here.directory) / SUM_FILE
    if not file.exists():
        raise DemoFailed("the callback task left no sum")
    content = json.loads(file.read_text("utf-8"))
    if content.pop("bid") != batch.bid:
        raise DemoFailed("the callback task was told of another batch")
    return Sum(**content)


def check_counts(status: BatchStatus, modules: int, total: Sum) -> None:
    """Compare the batch's counts with what was put in and what came out. Raises `DemoFailed`."""
    if status.total != modules or status.succeeded + status.dead != modules:
        raise DemoFailed(f"{modules} modules went in, and the batch says {status.total}")
    if status.succeeded != total.modules:
        raise DemoFailed(f"{total.modules} modules were measured, and the batch says {status.succeeded}")


def _is_about(batch: Batch, event: str) -> Callable[[CaughtHook], bool]:
    def check(hook: CaughtHook) -> bool:
        if hook.content is None:
            raise DemoFailed(f"a webhook arrived that is not genuine: {hook.fault}")
        return (hook.content["bid"], hook.content["event"]) == (batch.bid, event)

    return check
