"""What the end of a callback's task means for its delivery. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.membership import Outcome, State
from celery_batches_notify.messages.headers import DELIVER_TASK
from celery_batches_notify.model import DeliveryNote

PROCESS_LOST_SECONDS = 5.0
NOT_REGISTERED_SECONDS = 60.0
TIME_LIMIT_SECONDS = 300.0
STORE_AWAY = f"{StoreUnavailable.__module__}.{StoreUnavailable.__qualname__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What happened, as `settle_delivery` takes it, and what the delivery log says of it."""

    happened: str
    delay_seconds: float = 0
    note: DeliveryNote | None = None


def ending_of(task: str | None, outcome: Outcome, *, lost: bool) -> Ending | None:
    """Return what became of a delivery whose task ended so; None where the task notes that itself.

    Args:
        task: The task's name.
        outcome: How it ended.
        lost: Whether its process was lost with it.
    """
    channel = str(task)
    if lost:
        note = DeliveryNote(channel=channel, detail="its process was lost")
        return Ending(happened="lost", delay_seconds=PROCESS_LOST_SECONDS, note=note)  # safety: lost-counts
    error = outcome.failure.error_class if outcome.failure else ""
    if outcome.state == State.FAILING:
        return Ending(happened="retried")
    if task == DELIVER_TASK and (outcome.state == State.SUCCEEDED or error == STORE_AWAY):
        # What could not be noted, because the store was away, is tried again.
        return Ending(happened="due", delay_seconds=PROCESS_LOST_SECONDS) if error else None
    # safety: time-limit
    if task == DELIVER_TASK and error.endswith("TimeLimitExceeded"):  # whoever set it, it is no answer
        note = DeliveryNote(channel=channel, detail="a time limit ended it")
        return Ending(happened="lost", delay_seconds=TIME_LIMIT_SECONDS, note=note)
    # safety: not-registered
    if outcome.reason == "not registered":  # another worker of its queue may have it, or have it soon
        note = DeliveryNote(channel=channel, detail="a worker that has no such task took it")
        return Ending(happened="lost", delay_seconds=NOT_REGISTERED_SECONDS, note=note)
    happened = "delivered" if outcome.state == State.SUCCEEDED else "given_up"
    return Ending(happened=happened, note=DeliveryNote(channel=channel, detail=error))


def worker_lost(task: str) -> DeliveryNote:
    """What the delivery log says of a callback whose whole worker was lost."""
    return DeliveryNote(channel=task, detail="its worker was lost")
