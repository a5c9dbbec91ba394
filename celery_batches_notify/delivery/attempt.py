"""The Celery task that sends one notification: one attempt per run, the next one's time in the outbox."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from celery import Celery

from celery_batches_notify.delivery.backoff import ATTEMPTS_AT_MOST, JITTER, delay_after
from celery_batches_notify.delivery.callbacks import Declared
from celery_batches_notify.delivery.publisher import (
    DELIVER_TASK,
    DETAIL_AT_MOST,
    NEVER_PUBLISHED,
    Publisher,
    callback_id,
    words_of,
)
from celery_batches_notify.errors import NoSuchBatch, NotificationFailed
from celery_batches_notify.model import DeliveryNote, Event, Notification
from celery_batches_notify.notifiers.base import Notifier, NotifierBroke, Reply, send_once
from celery_batches_notify.notifiers.registry import Registry
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.deliveries import log_of_delivery
from celery_batches_notify.store.reading import parse_deliverable, parse_entry, parse_owed, parse_status
from celery_batches_notify.store.store import Store
from celery_batches_notify.text import one_line

ATTEMPT_SECONDS = 60

Outcome = Literal["delivered", "failed", "given_up"]

logger = logging.getLogger(__name__)


class Attempts:
    """Sends notifications, calls what may have to wait, and notes in the outbox what became of it."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        registry: Registry,
        publisher: Publisher,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._settings = settings
        self._registry = registry
        self._publisher = publisher
        self._draw = draw

    def run(self, bid: str, entry: str) -> str:
        """Make one attempt of a delivery; return in a few words what became of it."""
        try:
            snapshot = self._store.read_snapshot(bid)
        except NoSuchBatch:
            return "the batch is gone"
        with readable(bid):
            state, attempts, _ = parse_entry(snapshot.outbox.get(entry.encode()))
            if state not in ("due", "published"):
                return f"already {state}"
            declared = parse_deliverable(snapshot.batch)[entry]
            status = parse_status(snapshot, self._settings.stall_after)
            owed = parse_owed(snapshot.batch, entry)
            timed = declared["event"] in (Event.DEADLINE, Event.STALL)
            limit = timedelta(milliseconds=declared["at"]) if timed else None
        notification = Notification(
            id=callback_id(bid, entry),
            event=declared["event"],
            status=status,
            url=self._settings.page_of(bid),
            attempt=attempts + (state == "due"),
            owed=owed,
            origin=self._settings.origin,
            read_at=snapshot.now,
            limit=limit,
        )
        if "signature" in declared:
            return self._call(entry, declared, notification, self._publisher.queue_of(snapshot))
        return self._attempt(entry, declared, notification)

    def _call(self, entry: str, canvas: Declared, notification: Notification, queue: str | None) -> str:
        """Call a canvas for which Celery asks the result backend first; without one it can never be."""
        try:
            self._publisher.call_canvas(entry, canvas, notification.status, queue)
        except Exception as exc:  # noqa: BLE001 - every broker and result backend has errors of its own
            never = isinstance(exc, (*NEVER_PUBLISHED, NotImplementedError))
            failed = NotificationFailed(f"not published: {words_of(exc)}", permanent=never)
            return self._fail(entry, canvas, notification, failed)
        self._settle(entry, canvas, notification, "delivered", detail="published")
        return "published"

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
        again = None if exc.permanent else delay_after(attempt, self._draw())
        if again is None:
            self._settle(entry, declared, notification, "given_up", exc.status_code, detail, owed=exc.owed)
            return f"given up: {detail}"
        delay = max(again, exc.retry_after or 0)
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
        note = DeliveryNote(
            channel=declared["target"],
            detail=one_line(detail[:DETAIL_AT_MOST], DETAIL_AT_MOST),
            status_code=status_code,
        )
        bid, attempt = notification.status.bid, notification.attempt
        if outcome != "given_up":  # the store logs that, whoever gives up
            level = logging.INFO if outcome == "delivered" else logging.WARNING
            log = log_of_delivery(logger, bid, entry, note.channel, attempt)
            log.log(level, "%s (attempt %d of %d): %s", outcome, attempt, ATTEMPTS_AT_MOST, note.detail)
        happened = "due" if outcome == "failed" else outcome
        self._store.settle_delivery(bid, entry, happened, attempt, delay_seconds=delay, note=note, owed=owed)


def host_of(notifier: Notifier) -> str:
    """What fails together: the host a notifier talks to, or all of its kind where it names none."""
    url = urlsplit(getattr(notifier, "url", None) or "")
    options = getattr(notifier, "via_options", None) or {}
    web = f"{url.hostname}:{url.port}" if url.port else url.hostname
    return str(web or options.get("address") or notifier.name)


def register_deliver_task(app: Celery, attempts: Callable[[], Attempts]) -> None:
    """Register the task that workers run for a notification.

    It is acknowledged late, so it comes back if its worker is lost; if only its process is lost, the outbox
    sends it again. A notification may be sent twice, under one id, but not lost.
    """

    def deliver(bid: str, entry: str) -> str:
        return attempts().run(bid, entry)

    options: dict[str, Any] = {
        "name": DELIVER_TASK,
        "acks_late": True,
        "ignore_result": True,
        "serializer": "json",
        "shared": False,
    }
    app.task(deliver, **options)
