"""The Celery task that sends one notification: one attempt per run, the next one's time in the outbox."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from celery import Celery

from celery_batches_notify.delivery.callbacks import Declared
from celery_batches_notify.delivery.publisher import DELIVER_TASK, callback_id
from celery_batches_notify.errors import NoSuchBatch, NotificationFailed
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.registry import Registry
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.reading import Snapshot, parse_callbacks, parse_status
from celery_batches_notify.store.store import Store

MINUTE, HOUR = 60, 60 * 60
DELAYS_SECONDS = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)
JITTER = 0.1

logger = logging.getLogger(__name__)


class Attempts:
    """Sends notifications, and notes in the outbox what became of each attempt."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        registry: Registry,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._settings = settings
        self._registry = registry
        self._draw = draw

    def run(self, bid: str, entry: str) -> str:
        """Make one attempt of a delivery; return in a few words what became of it."""
        try:
            snapshot = self._store.read_snapshot(bid)
        except NoSuchBatch:
            return "the batch is gone"
        state, attempts = _read_entry(snapshot, entry)
        if state not in ("due", "published"):
            return f"already {state}"
        attempt = attempts + (state == "due")
        declared = {f"{d['event']}:{d['n']}": d for d in parse_callbacks(snapshot.batch)}[entry]
        notification = Notification(
            id=callback_id(bid, entry),
            event=declared["event"],
            status=parse_status(snapshot, self._settings.stall_after),
            url=self._settings.page_of(bid),
            attempt=attempt,
        )
        try:
            answer = self._send(declared, notification)
        except NotificationFailed as exc:
            return self._postpone(bid, entry, attempt, exc)
        self._store.settle_delivery(bid, entry, "delivered", attempt)
        return answer

    def _send(self, declared: Declared, notification: Notification) -> str:
        try:
            notifier = self._registry.build(declared["notifier"], declared["options"])
            return notifier.send(notification)
        except NotificationFailed:
            raise
        except Exception as exc:
            raise NotificationFailed(f"{type(exc).__name__}: {exc}") from exc

    def _postpone(self, bid: str, entry: str, attempt: int, exc: NotificationFailed) -> str:
        fields = {"bid": bid, "delivery": entry, "attempt": attempt, "status_code": exc.status_code}
        if exc.permanent or attempt > len(DELAYS_SECONDS):
            logger.error("notification given up: %s", exc, extra=fields)
            self._store.settle_delivery(bid, entry, "given_up", attempt)
            return f"given up: {exc}"
        delay = DELAYS_SECONDS[attempt - 1] * (1 + JITTER * self._draw())
        delay = max(delay, exc.retry_after or 0)
        logger.warning("notification failed, next attempt in %.0f s: %s", delay, exc, extra=fields)
        self._store.settle_delivery(bid, entry, "due", attempt, delay_seconds=delay)
        return f"failed, next attempt in {delay:.0f} s: {exc}"


def register_deliver_task(app: Celery, attempts: Callable[[], Attempts]) -> None:
    """Register the task that workers run for a notification.

    It is acknowledged late and comes back if its worker is lost: a notification may be sent twice, under
    one id, but not lost.
    """

    def deliver(bid: str, entry: str) -> str:
        return attempts().run(bid, entry)

    options: dict[str, Any] = {
        "name": DELIVER_TASK,
        "acks_late": True,
        "reject_on_worker_lost": True,
        "ignore_result": True,
        "serializer": "json",
        "shared": False,
    }
    app.task(deliver, **options)


def _read_entry(snapshot: Snapshot, entry: str) -> tuple[str, int]:
    value = snapshot.outbox.get(entry.encode(), b"unknown 0 0").decode()
    state, attempts, _ = value.split(" ")
    return state, int(attempts)
