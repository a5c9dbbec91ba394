"""The Celery task that sends one notification: one attempt per run, the next one's time in the outbox."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from celery import Celery

from celery_batches_notify.delivery.addresses import Addresses, address_of, is_busy
from celery_batches_notify.delivery.backoff import delay_after, fallback_after
from celery_batches_notify.delivery.callbacks import Declared
from celery_batches_notify.delivery.publisher import DETAIL_AT_MOST, NEVER_PUBLISHED, Publisher, message_of
from celery_batches_notify.delivery.waiting import note_wait
from celery_batches_notify.errors import NoSuchBatch, NotificationFailed
from celery_batches_notify.messages.headers import DELIVER_TASK, callback_id
from celery_batches_notify.model import DeliveryNote, Event, Notification
from celery_batches_notify.notifiers.base import Notifier, NotifierBroke, Reply, send_once
from celery_batches_notify.notifiers.registry import Registry
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.deliveries import log_of_delivery
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.outbox import Address, Entry, parse_entry, parse_owed
from celery_batches_notify.store.packing import ATTEMPTS_AT_MOST
from celery_batches_notify.store.parsing import Snapshot, parse_deliverable, parse_status
from celery_batches_notify.store.store import Store
from celery_batches_notify.text import one_line

# Above the 300 s that a notifier may take, whatever the app's own limits are.
SOFT_LIMIT_SECONDS, HARD_LIMIT_SECONDS = 330, 360

AttemptResult = Literal["delivered", "failed", "given_up", "postponed"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """The delivery of one attempt: its entry, its declaration, and the number of its claim."""

    entry: str
    declared: Declared
    number: int
    last: bool
    now: datetime
    notification: Notification


class Attempts:
    """Sends notifications, calls canvases that may have to wait, and notes each result in the outbox."""

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
        self._addresses = Addresses(store, publisher)
        self._draw = draw

    def run(self, bid: str, entry: str, number: int = 0) -> str:
        """Make one attempt of a delivery; return a short text about its result.

        Args:
            bid: Its batch.
            entry: Its entry in the outbox.
            number: The number of its claim; 0 fits any claim.
        """
        try:
            snapshot = self._store.read_snapshot(bid)
        except NoSuchBatch:
            return "the batch is gone"
        with corrupt_errors(bid):
            stored = parse_entry(snapshot.outbox.get(entry.encode()))
            if stored.state not in ("due", "published"):
                return f"already {stored.state}"
            if number not in (0, stored.number):  # safety: overtaken-silent
                return "another message of it is under way, or it is due later"
            delivery = self._read(snapshot, entry, stored)
        if "signature" in delivery.declared:
            return self._call(delivery, self._publisher.queue_of(snapshot))
        return self._attempt(delivery)

    def _read(self, snapshot: Snapshot, entry: str, stored: Entry) -> _Delivery:
        declared = parse_deliverable(snapshot)[entry]
        timed = declared["event"] in (Event.DEADLINE, Event.STALL)
        notification = Notification(
            id=callback_id(snapshot.bid, entry),
            event=declared["event"],
            status=parse_status(snapshot, self._settings.stall_after),
            url=self._settings.page_of(snapshot.bid),
            attempt=stored.attempts + (stored.state == "due"),
            owed=parse_owed(snapshot.batch, entry),
            origin=self._settings.origin,
            read_at=snapshot.now,
            limit=timedelta(milliseconds=declared["at"]) if timed else None,
        )
        return _Delivery(
            entry=entry,
            declared=declared,
            number=stored.number,
            last=stored.last,
            now=snapshot.now,
            notification=notification,
        )

    def _call(self, delivery: _Delivery, queue: str | None) -> str:
        """Call a canvas before which Celery reads the result backend; without a backend it never can be."""
        status = delivery.notification.status
        try:
            self._publisher.call_canvas(delivery.entry, delivery.declared, status, queue)
        except Exception as exc:  # noqa: BLE001 - every broker and result backend has errors of its own
            never = isinstance(exc, (*NEVER_PUBLISHED, NotImplementedError))
            return self._fail(
                delivery, NotificationFailed(f"not published: {message_of(exc)}", permanent=never)
            )
        self._settle(delivery, "delivered", detail="published")
        return "published"

    def _attempt(self, delivery: _Delivery) -> str:
        try:
            notifier = self._build(delivery.declared)
        except NotificationFailed as exc:
            return self._fail(delivery, exc)
        address = address_of(delivery.declared["notifier"], notifier)
        if wait := self._addresses.ask(delivery.notification.status.bid, delivery.entry, address):
            return self._postpone(delivery, address, wait)
        try:
            answer = self._send(notifier, delivery.notification)
        except NotifierBroke as exc:
            return self._fail(delivery, exc)
        except NotificationFailed as exc:
            return self._note_refusal(delivery, address, exc)
        self._settle(delivery, "delivered", answer.status_code, answer)
        self._addresses.release(address)
        return answer

    def _send(self, notifier: Notifier, notification: Notification) -> Reply:
        """Send once. The process may die before or after this, without a note in the outbox."""
        return send_once(notifier, notification)

    def _build(self, declared: Declared) -> Notifier:
        try:
            return self._registry.build(declared["notifier"], declared["options"])
        except Exception as exc:
            raise NotificationFailed(str(exc)) from exc

    def _note_refusal(self, delivery: _Delivery, address: Address, exc: NotificationFailed) -> str:
        """Note a failed attempt, and let its address rest if the address is what failed."""
        if exc.permanent or exc.alone or exc.owed:  # safety: one-notification
            result = self._fail(delivery, exc)
            self._addresses.release(address)
            return result
        pause = self._addresses.pause(address, exc)
        if is_busy(exc):  # safety: busy-free
            return self._postpone(delivery, address, pause, exc)
        result = self._fail(delivery, exc, address)
        self._addresses.wait(delivery.notification.status.bid, delivery.entry, address, rest=True)
        return result

    def _postpone(
        self, delivery: _Delivery, address: Address, wait: float, exc: NotificationFailed | None = None
    ) -> str:
        """Put it off without counting an attempt: it is published once its address has taken another one."""
        note = note_wait(delivery.declared, address, delivery.now, wait, exc, last=delivery.last)
        delay = fallback_after(wait, self._draw())
        code, owed = (exc.status_code, exc.owed) if exc else (None, ())
        self._settle(delivery, "postponed", code, note.detail, delay, owed, address)
        if delivery.last:
            return f"given up: {note.detail}"
        self._addresses.wait(delivery.notification.status.bid, delivery.entry, address)
        return note.detail

    def _fail(self, delivery: _Delivery, exc: NotificationFailed, address: Address | None = None) -> str:
        attempt, detail = delivery.notification.attempt, str(exc)
        again = None if exc.permanent or delivery.last else delay_after(attempt, self._draw())
        if again is None:
            self._settle(delivery, "given_up", exc.status_code, detail, owed=exc.owed)
            return f"given up: {detail}"
        delay = max(again, exc.retry_after or 0)
        self._settle(delivery, "failed", exc.status_code, detail, delay, exc.owed, address)
        return f"failed, next attempt in {delay:.0f} s: {detail}"

    def _settle(
        self,
        delivery: _Delivery,
        result: AttemptResult,
        status_code: int | None = None,
        detail: str = "",
        delay: float = 0,
        owed: Sequence[str] = (),
        address: Address | None = None,
    ) -> None:
        note = DeliveryNote(
            channel=delivery.declared["target"],
            detail=one_line(detail[:DETAIL_AT_MOST], DETAIL_AT_MOST),
            status_code=status_code,
        )
        bid, attempt = delivery.notification.status.bid, delivery.notification.attempt
        if result in ("delivered", "failed"):  # the store logs each delivery that is given up
            level = logging.INFO if result == "delivered" else logging.WARNING
            log = log_of_delivery(logger, bid, delivery.entry, note.channel, attempt)
            log.log(level, "%s (attempt %d of %d): %s", result, attempt, ATTEMPTS_AT_MOST, note.detail)
        self._store.settle_delivery(
            bid,
            delivery.entry,
            "due" if result == "failed" else result,
            attempt,
            delay_seconds=delay,
            note=note,
            owed=owed,
            waits_for=str(address) if address else "",
            number=delivery.number,
        )


def register_deliver_task(app: Celery, attempts: Callable[[], Attempts]) -> None:
    """Register the task that workers run for a notification.

    It is acknowledged late, so it comes back if its worker is lost; if only its process is lost, the outbox
    sends it again. A notification may be sent twice, under one id, but is never lost. It has its own time
    limits, because the app's limits are for the user's tasks and may be too short for a slow receiver.
    """

    def deliver(bid: str, entry: str, number: int = 0) -> str:
        return attempts().run(bid, entry, number)

    options: dict[str, Any] = {
        "name": DELIVER_TASK,
        "acks_late": True,
        "ignore_result": True,
        "serializer": "json",
        "shared": False,
        "soft_time_limit": SOFT_LIMIT_SECONDS,
        "time_limit": HARD_LIMIT_SECONDS,  # safety: deliver-limits
    }
    app.task(deliver, **options)
