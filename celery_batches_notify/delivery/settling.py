"""How a delivery goes on when its callback's task ends. Pure: no I/O."""

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
    """What happened to a delivery, in the terms of `settle_delivery`, and its line in the delivery log."""

    happened: str
    delay_seconds: float = 0
    note: DeliveryNote | None = None


def ending_of(task: str | None, outcome: Outcome, *, lost: bool) -> Ending | None:
    """Return what happened to a delivery whose task ended this way; None if the task notes it itself.

    Args:
        task: The task's name.
        outcome: How the task ended.
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
        # If the store was away, the attempt could not be noted, so it is made again.
        return Ending(happened="due", delay_seconds=PROCESS_LOST_SECONDS) if error else None
    # safety: time-limit
    if task == DELIVER_TASK and error.endswith("TimeLimitExceeded"):  # its receiver has not answered
        note = DeliveryNote(channel=channel, detail="a time limit ended it")
        return Ending(happened="lost", delay_seconds=TIME_LIMIT_SECONDS, note=note)
    # safety: not-registered
    if outcome.reason == "not registered":  # another worker of its queue may have it, or get it soon
        note = DeliveryNote(channel=channel, detail="a worker without this task took it")
        return Ending(happened="lost", delay_seconds=NOT_REGISTERED_SECONDS, note=note)
    happened = "delivered" if outcome.state == State.SUCCEEDED else "given_up"
    return Ending(happened=happened, note=DeliveryNote(channel=channel, detail=error))


def worker_lost(task: str) -> DeliveryNote:
    """Return the line in the delivery log for a callback whose whole worker was lost."""
    return DeliveryNote(channel=task, detail="its worker was lost")
