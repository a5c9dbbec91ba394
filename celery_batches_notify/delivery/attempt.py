"""The Celery task that sends one notification: one attempt per run, the next one's time in the outbox."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from celery import Celery

from celery_batches_notify.delivery.callbacks import Declared
from celery_batches_notify.delivery.publisher import DELIVER_TASK, callback_id
from celery_batches_notify.errors import NoSuchBatch, NotificationFailed
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import DeliveryAttempt, Notification
from celery_batches_notify.notifiers.base import Notifier, NotifierBroke, Reply, send_once
from celery_batches_notify.notifiers.registry import Registry
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.reading import Snapshot, parse_deliverable, parse_owed, parse_status
from celery_batches_notify.store.store import Store
from celery_batches_notify.text import one_line

MINUTE, HOUR = 60, 60 * 60
DELAYS_SECONDS = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)
ATTEMPT_SECONDS = 60
JITTER = 0.1
DETAIL_AT_MOST = 500

Outcome = Literal["delivered", "failed", "given_up"]

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
        with readable(bid):
            state, attempts = _read_entry(snapshot, entry)
            if state not in ("due", "published"):
                return f"already {state}"
            declared = parse_deliverable(snapshot.batch)[entry]
            status = parse_status(snapshot, self._settings.stall_after)
            owed = parse_owed(snapshot.batch, entry)
        notification = Notification(
            id=callback_id(bid, entry),
            event=declared["event"],
            status=status,
            url=self._settings.page_of(bid),
            attempt=attempts + (state == "due"),
            owed=owed,
        )
        return self._attempt(entry, declared, notification)

    def _attempt(self, entry: str, declared: Declared, notification: Notification) -> str:
        try:
            notifier = self._build(declared)
            host = host_of(notifier)
            if wait := self._store.ask_host(host, ATTEMPT_SECONDS):
                return self._postpone(entry, notification, wait)
            answer = self._send(notifier, host, notification)
        except NotificationFailed as exc:
            return self._fail(entry, declared, notification, exc)
        self._settle(entry, declared, notification, "delivered", answer.status_code, answer)
        return answer

    def _build(self, declared: Declared) -> Notifier:
        try:
            return self._registry.build(declared["notifier"], declared["options"])
        except Exception as exc:
            raise NotificationFailed(str(exc)) from exc

    def _send(self, notifier: Notifier, host: str, notification: Notification) -> Reply:
        """Send once. A receiver that fails is left alone for a while, not one that answers with a refusal."""
        try:
            answer = send_once(notifier, notification)
        except NotifierBroke:
            raise
        except NotificationFailed as exc:
            self._store.note_host(host, answered=exc.permanent, pause_seconds=exc.retry_after or 0)
            raise
        self._store.note_host(host, answered=True)
        return answer

    def _postpone(self, entry: str, notification: Notification, wait: float) -> str:
        delay = wait * (1 + JITTER * self._draw())
        bid, attempt = notification.status.bid, notification.attempt
        self._store.settle_delivery(bid, entry, "postponed", attempt, delay_seconds=delay)
        return f"not tried, for the receiver failed just now; again in {delay:.0f} s"

    def _fail(
        self, entry: str, declared: Declared, notification: Notification, exc: NotificationFailed
    ) -> str:
        attempt, detail = notification.attempt, str(exc)
        if exc.permanent or attempt > len(DELAYS_SECONDS):
            self._settle(entry, declared, notification, "given_up", exc.status_code, detail, owed=exc.owed)
            return f"given up: {detail}"
        delay = DELAYS_SECONDS[attempt - 1] * (1 + JITTER * self._draw())
        delay = max(delay, exc.retry_after or 0)
        self._settle(entry, declared, notification, "failed", exc.status_code, detail, delay, exc.owed)
        return f"failed, next attempt in {delay:.0f} s: {detail}"

    def _settle(
        self,
        entry: str,
        declared: Declared,
        notification: Notification,
        outcome: Outcome,
        status_code: int | None = None,
        detail: str = "",
        delay: float = 0,
        owed: Sequence[str] = (),
    ) -> None:
        log = DeliveryAttempt(
            event=declared["event"],
            n=declared["n"],
            channel=declared["target"],
            attempt=notification.attempt,
            outcome=outcome,
            status_code=status_code,
            detail=one_line(detail[:DETAIL_AT_MOST], DETAIL_AT_MOST),
        )
        bid = notification.status.bid
        level = {"delivered": logging.INFO, "failed": logging.WARNING, "given_up": logging.ERROR}[outcome]
        channel = one_line(log.channel, DETAIL_AT_MOST)
        words, of = outcome.replace("_", " "), len(DELAYS_SECONDS) + 1
        BatchLog(logger, bid=bid, event=log.event, channel=channel, attempt=log.attempt).log(
            level, "%s (attempt %d of %d): %s", words, log.attempt, of, log.detail
        )
        happened = "due" if outcome == "failed" else outcome
        self._store.settle_delivery(
            bid, entry, happened, log.attempt, delay_seconds=delay, log=log, owed=owed
        )


def host_of(notifier: Notifier) -> str:
    """What fails together: the host a notifier talks to, or all of its kind where it names none."""
    url = urlsplit(getattr(notifier, "url", None) or "")
    options = getattr(notifier, "via_options", None) or {}
    web = f"{url.hostname}:{url.port}" if url.port else url.hostname
    return str(web or options.get("address") or notifier.name)


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
