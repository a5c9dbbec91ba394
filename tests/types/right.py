"""Uses of the API that type checkers accept. Nothing here runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from celery import Celery, Task, shared_task

from celery_batches_notify import Batch, Batches, BatchStatus, current_batch
from celery_batches_notify.notifiers import Email
from celery_batches_notify.typing import EventName, StatusDict

app = Celery("proj")
Batches(app)


@shared_task
def import_row(row: int, dry_run: bool = False) -> None:
    """Take one item, and have a default for the rest."""


@app.task
def untyped(row: Any) -> None:
    """Be a task whose arguments celery-types does not know."""


@shared_task
def publish_report(status: StatusDict, user_id: int) -> str:
    """Read the status by its fields."""
    names = [callback["target"] for callback in status["callbacks"]]
    failures = [failure["error_class"] for failure in status["failure_info"]]
    return f"{status['state']} {status['total'] - status['pending']} {names} {failures} {user_id}"


batch = Batch("Import rows", tags=["customer:42"], expires=timedelta(days=1))
batch.on("complete", Email, to="ops@example.com").on("success", "webhook:billing")
batch.on("success", publish_report.s(user_id=7), only_if={"failures": 0})
batch.on("progress", "slack", at=0.5).on("stall", "email", after=timedelta(hours=1))
batch.on("deadline", "teams", after=3600)
with batch:
    batch.map(import_row, range(10))
    batch.map(import_row, (row for row in [1, 2]))
    batch.map(import_row.s(), [1])
    batch.map(untyped, ["any", 1])
    batch.starmap(import_row, [(1, True), [2]])
event: EventName = "finish"
assert_type(batch.join(timeout=5, event=event), BatchStatus)
assert_type(batch.status().as_dict(), StatusDict)
assert_type(batch.map(import_row, [1]), int)
batch.redeliver("success")
for each in Batch.all(state="dead"):
    each.retry()
with current_batch():
    import_row.delay(3)
if (running := current_batch()) is not None:
    running.map(import_row, [3])


class OwnTask(Task[Any, Any]):
    """A task class of the app's own."""


own: Celery[OwnTask] = Celery("own", task_cls=OwnTask)
Batches(own)
Batch(app=own)
