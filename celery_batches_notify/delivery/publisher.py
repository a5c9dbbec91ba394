"""Publishing: from a delivery that is due to a task message at the broker."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu import Connection
from kombu.exceptions import EncodeError

from celery_batches_notify import traces
from celery_batches_notify.delivery.backoff import delay_after
from celery_batches_notify.delivery.callbacks import (
    Declared,
    asks_results,
    is_canvas,
    prepare_signature,
    route_of,
)
from celery_batches_notify.delivery.parents import ENTRY as PARENT
from celery_batches_notify.delivery.parents import report_to_parent
from celery_batches_notify.delivery.rules import rules_hold
from celery_batches_notify.delivery.unwatched import unwatched
from celery_batches_notify.delivery.waiting import put_off
from celery_batches_notify.errors import InvalidCallback, NoSuchBatch, StoreUnavailable
from celery_batches_notify.fork_safety import forks
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.messages.block import outside_batch
from celery_batches_notify.messages.broker import connect_for_callbacks, errors_of
from celery_batches_notify.messages.headers import (
    DELIVER_TASK,
    HEADER,
    DeliveryRef,
    Headers,
    callback_id,
    header_of,
)
from celery_batches_notify.messages.traces import add_trace
from celery_batches_notify.model import BatchStatus, DeliveryNote
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.deliveries import log_of_delivery
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.family import parse_child_report
from celery_batches_notify.store.packing import ATTEMPTS_AT_MOST
from celery_batches_notify.store.parsing import Snapshot, parse_deliverable, parse_status
from celery_batches_notify.store.recorded import Claim, Recorded
from celery_batches_notify.store.store import Store
from celery_batches_notify.text import one_line

DETAIL_AT_MOST = 500
TRACE = traces.FIELD.encode()
NEVER_PUBLISHED = (InvalidCallback, EncodeError)  # another attempt would fail too

logger = logging.getLogger(__name__)


class Publisher:
    """Publishes one task per callback, over a connection of its own that never waits without end.

    While the broker is away, callbacks stay due in the outbox, and the sweeper finds them. Any other error is
    a failed attempt: the callback is tried again, as often as a notification is.
    """

    def __init__(
        self, app: Celery, store: Store, settings: Settings, draw: Callable[[], float] = random.random
    ) -> None:
        self._app = app
        self._store = store
        self._settings = settings
        self._draw = draw
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Start empty: a fork's child must not use its parent's connection, nor wait for its lock."""
        # safety: reentrant-publish
        self._lock = threading.RLock()  # publishing a callback may end another batch
        self._connection: Connection | None = None

    def publish(self, bid: str, recorded: Recorded) -> None:
        """Publish these deliveries of a batch, in their order, and give up those that stayed silent.

        While the broker is away they stay due. A child's report to its parent may make more callbacks due
        there: they follow, and so on upwards.
        """
        under_way = [self._publish_of(bid, recorded.due)] if recorded.due else []
        while under_way:  # no recursion, because a family may be deep
            if due := next(under_way[-1], None):
                under_way.append(self._publish_of(*due))
            else:
                under_way.pop()

    def _publish_of(self, bid: str, claims: Sequence[Claim]) -> Iterator[tuple[str, Sequence[Claim]]]:
        """Publish the deliveries of one batch; yield those of its parent, to be published first."""
        try:
            snapshot = self._store.read_snapshot(bid)
        except NoSuchBatch:
            return
        with corrupt_errors(bid):
            status = parse_status(snapshot, self._settings.stall_after)
            declared = parse_deliverable(snapshot)
        queue = self.queue_of(snapshot)
        for claim in claims:
            if claim.entry == PARENT:
                yield from self._report_to_parent(snapshot, status)
                continue
            if claim.entry == traces.ENTRY:
                traces.record_batch(snapshot.batch.get(TRACE), status)
                self._store.settle_delivery(
                    bid, claim.entry, "delivered", claim.attempts + 1, number=claim.number
                )
                continue
            try:
                with traces.below_batch(snapshot.batch.get(TRACE)):
                    self._publish_one(claim, declared.get(claim.entry, {}), status, snapshot, queue)
            except _BrokerAway as exc:
                log = _log_of(bid, claim, declared.get(claim.entry, {}))
                log.warning("not published yet: %s", exc)
                return

    def close(self) -> None:
        """Close the connection; the next callback opens another."""
        with self._lock:
            self._drop()

    def queue_of(self, snapshot: Snapshot) -> str | None:
        """Return the queue for a batch's callbacks that do not name one; None for Celery's own routing."""
        own = snapshot.batch.get(b"callback_queue", b"").decode("utf-8", "replace")
        return own or self._settings.callback_queue

    def call_canvas(self, entry: str, declared: Declared, status: BatchStatus, queue: str | None) -> None:
        """Call a callback that is a canvas. It runs in a task, so Celery may wait for the result backend."""
        task_id = callback_id(status.bid, entry)
        canvas = prepare_signature(self._app, declared["signature"], task_id, queue)
        with unwatched(self._app):
            canvas.apply_async((status.as_dict(),), task_id=task_id)

    def _report_to_parent(self, snapshot: Snapshot, status: BatchStatus) -> list[tuple[str, Sequence[Claim]]]:
        """Report a child to its parent; return what that made due there."""
        with corrupt_errors(status.bid):
            report = parse_child_report(snapshot.batch)
        if report is None:
            return []
        made_due = report_to_parent(self._store, status, report)
        self._store.settle_delivery(status.bid, PARENT, "delivered", report.version)
        return [(report.parent_bid, recorded.due) for recorded in made_due if recorded.due]

    def _publish_one(
        self, claim: Claim, callback: Declared, status: BatchStatus, snapshot: Snapshot, queue: str | None
    ) -> None:
        """Publish one delivery, and note the result. Raises `_BrokerAway`."""
        bid, attempt, delay, note = status.bid, claim.attempts + 1, 0.0, None
        try:
            if claim.silent:
                happened, attempt = "silent", claim.attempts
                note = _note(callback, "nothing was heard of it since it was published")
            elif not rules_hold(callback.get("only_if", {}), status, snapshot.now):
                happened = "skipped"
            elif put_off(self._store, claim, callback, snapshot, self._draw()):  # safety: put-off
                return
            else:
                happened = self._publish(claim, callback, status, queue)
        except (_BrokerAway, StoreUnavailable, SoftTimeLimitExceeded):  # the last is for the caller's task
            raise
        except Exception as exc:
            log = _log_of(bid, claim, callback)
            log.exception("not published (attempt %d of %d)", attempt, ATTEMPTS_AT_MOST)
            again = None if isinstance(exc, NEVER_PUBLISHED) else delay_after(attempt, self._draw())
            # safety: unpublished-retried
            happened, delay = ("given_up", 0.0) if again is None else ("due", again)
            note = _note(callback, f"not published: {message_of(exc)}")
        self._store.settle_delivery(
            bid, claim.entry, happened, attempt, delay_seconds=delay, note=note, number=claim.number
        )

    def publish_later(self, bid: str, claim: Claim, seconds: float) -> None:
        """Publish a notification whose task runs in this many seconds; until then it stays due."""
        if self._app.conf.task_always_eager:
            return
        try:
            snapshot = self._store.read_snapshot(bid)
            with traces.below_batch(snapshot.batch.get(TRACE)):
                self._deliver(bid, claim, queue=self.queue_of(snapshot), countdown=seconds)
        except NoSuchBatch:
            return
        except Exception as exc:  # noqa: BLE001 - the sweeper publishes it
            _log_of(bid, claim, {}).warning("not published yet: %s", message_of(exc))

    def _publish(self, claim: Claim, declared: Declared, status: BatchStatus, queue: str | None) -> str:
        task_id = callback_id(status.bid, claim.entry)
        if "notifier" in declared:
            self._deliver(status.bid, claim, queue=queue)
            return "published"
        signature = declared.get("signature") or {}
        callback = prepare_signature(self._app, signature, task_id, queue)
        if asks_results(signature):  # only a task may wait for them  # safety: chord-by-task
            self._deliver(status.bid, claim, **route_of(self._app, signature))
            return "published"
        if is_canvas(signature):
            self._send(callback, (status.as_dict(),), task_id=task_id)
            return "delivered"
        headers = add_trace({**(callback.options.get("headers") or {}), **_header(status.bid, claim)})
        sent = self._send(callback, (status.as_dict(),), headers=headers, task_id=task_id)
        # If the task's class gives ids of its own, nobody will report how the callback ended.
        is_watched = getattr(sent, "id", task_id) == task_id  # safety: id-of-its-class
        return "published" if is_watched else "delivered"

    def _deliver(self, bid: str, claim: Claim, **options: Any) -> None:
        options |= {"headers": add_trace(_header(bid, claim)), "task_id": callback_id(bid, claim.entry)}
        self._send(self._app.tasks[DELIVER_TASK], (bid, claim.entry, claim.number), **options)

    def _send(self, call: Any, args: tuple[Any, ...], **options: Any) -> Any:
        """Send a call, and return its result. Raises `_BrokerAway`."""
        if self._app.conf.task_always_eager:
            with outside_batch():
                return call.apply_async(args, **options)
        # safety: outside-blocks
        with self._lock, outside_batch():  # else a block that is open here would collect it
            connection = self._connect()
            try:
                with (
                    unwatched(self._app),
                    forks.waiting(),
                    connection.Producer(auto_declare=False) as producer,
                ):
                    return call.apply_async(args, producer=producer, **options)
            except BaseException as exc:
                self._drop()  # it may have been left in the middle of a message
                # safety: broker-refused
                if isinstance(exc, errors_of(connection)) and not self._broker_answers():
                    raise _BrokerAway(str(exc)) from exc
                raise

    def _broker_answers(self) -> bool:
        """Return whether the broker takes a connection: then it did not cause the error."""
        try:
            with forks.waiting():
                self._connect().connect()
        except Exception:  # noqa: BLE001 - every transport has errors of its own
            self._drop()
            return False
        return True

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = connect_for_callbacks(self._app)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


class _BrokerAway(Exception):
    """The broker cannot be reached now."""


def message_of(exc: BaseException) -> str:
    """Return an exception as one short line."""
    return one_line(f"{type(exc).__name__}: {exc}"[:DETAIL_AT_MOST], DETAIL_AT_MOST)


def _header(bid: str, claim: Claim) -> Headers:
    ref = DeliveryRef(bid=bid, entry=claim.entry, number=claim.number)  # safety: claim-in-message
    return {HEADER: header_of(ref)}


def _note(callback: Declared, detail: str = "") -> DeliveryNote:
    return DeliveryNote(channel=str(callback.get("target", "nobody")), detail=detail)


def _log_of(bid: str, claim: Claim, callback: Declared) -> BatchLog:
    return log_of_delivery(logger, bid, claim.entry, _note(callback).channel, claim.attempts + 1)
