"""Uses of the API that type checkers refuse: each marked line, and no other. Nothing here runs."""

from __future__ import annotations

from celery import shared_task

from celery_batches_notify import Batch
from celery_batches_notify.typing import StatusDict


@shared_task
def import_row(row: int, dry_run: bool = False) -> None:
    """Take one item."""


@shared_task
def add_numbers(a: int, b: int) -> int:
    """Take two arguments."""
    return a + b


def read(status: StatusDict) -> None:
    """Misread a status."""
    status["totl"]  # wrong: no such field
    status["total"].upper()  # wrong: a number
    if status["state"] == "finished":  # wrong: no such state
        pass


batch = Batch("Import rows")
batch.map(import_row, ["1", "2"])  # wrong: items of another type
batch.map(add_numbers, [1])  # wrong: two arguments
batch.map(print, [1])  # wrong: not a task
batch.on("completed", "email")  # wrong: no such event
batch.on("progress", "email")  # wrong: without at=
batch.on("stall", "email", at=1)  # wrong: without after=
batch.on("success", 5)  # wrong: not a target
batch.join(event="done")  # wrong: no such event
batch.redeliver("sucess")  # wrong: no such event
Batch.all(state="failed")  # wrong: no such state
