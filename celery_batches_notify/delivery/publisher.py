"""Publishing: from a delivery that is due to a task message at the broker."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celery import Celery
from celery.canvas import Signature
from kombu import Connection
from kombu.exceptions import OperationalError

from celery_batches_notify.block import outside_batch
from celery_batches_notify.delivery.callbacks import (
    Declared,
    is_canvas,
    known_tasks,
    refuse_unknown_tasks,
    walk_leaves,
)
from celery_batches_notify.delivery.parents import ENTRY as PARENT
from celery_batches_notify.delivery.parents import tell_parent
from celery_batches_notify.delivery.rules import rules_hold
from celery_batches_notify.errors import NoSuchBatch
from celery_batches_notify.forks import forks
from celery_batches_notify.log_lines import BatchLog, Fields
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.deliveries import Claim
from celery_batches_notify.store.reading import Snapshot, parse_deliverable, parse_status
from celery_batches_notify.store.store import Store
from celery_batches_notify.text import one_line

DELIVER_TASK = "celery_batches_notify.deliver"
HEADER = "batches"
BROKER_TIMEOUT_SECONDS = 5
CHANNEL_AT_MOST = 200
_TIMEOUTS: dict[str, dict[str, Any]] = {
    "redis": {"socket_timeout": BROKER_TIMEOUT_SECONDS, "socket_connect_timeout": BROKER_TIMEOUT_SECONDS},
    "amqp": {"read_timeout": BROKER_TIMEOUT_SECONDS, "write_timeout": BROKER_TIMEOUT_SECONDS},
}

logger = logging.getLogger(__name__)


class Publisher:
    """Publishes one task per callback, over a connection of its own that never waits without end.

    What the broker does not take stays due in the outbox, where the sweeper finds it.
    """

    def __init__(self, app: Celery, store: Store, settings: Settings) -> None:
        self._app = app
        self._store = store
        self._settings = settings
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Start anew: a fork's child has neither its parent's connection nor the lock's holder."""
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def publish_due(self, bid: str, claims: Sequence[Claim]) -> None:
        """Publish these deliveries of a batch, in their order.

        Where the broker is away they stay due; a callback that can never be published is given up. What a
        child's telling makes due in its parent follows, and so on upwards.
        """
        under_way = [self._publish_of(bid, claims)]
        while under_way:  # no recursion, for a family may be deep
            if due := next(under_way[-1], None):
                under_way.append(self._publish_of(*due))
            else:
                under_way.pop()

    def _publish_of(self, bid: str, claims: Sequence[Claim]) -> Iterator[tuple[str, Sequence[Claim]]]:
        """Publish these deliveries of one batch; yield what is due in its parent first."""
        try:
            snapshot = self._store.read_snapshot(bid)
        except NoSuchBatch:
            return
        with readable(bid):
            status = parse_status(snapshot, self._settings.stall_after)
            declared = parse_deliverable(snapshot.batch)
        queue = (
            snapshot.batch.get(b"callback_queue", b"").decode("utf-8", "replace")
            or self._settings.callback_queue
        )
        for claim in claims:
            if claim.entry == PARENT:
                yield from self._tell_parent(snapshot, status)
                continue
            log = BatchLog(logger, bid=bid, **_fields(claim, declared))
            try:
                callback = declared[claim.entry]
                if not rules_hold(callback.get("only_if", {}), status, snapshot.now):
                    happened = "skipped"
                else:
                    happened = self._publish(claim.entry, callback, status, queue)
            except OperationalError as exc:
                log.warning("not published yet: %s", exc)
                return
            except Exception:
                log.exception("given up, because it cannot be published")
                happened = "given_up"
            self._store.settle_delivery(bid, claim.entry, happened, claim.attempts + 1)

    def close(self) -> None:
        """Give the connection back; the next callback opens another."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.release()

    def _tell_parent(self, snapshot: Snapshot, status: BatchStatus) -> list[tuple[str, Sequence[Claim]]]:
        """Report a child to its parent; return what that made due there."""
        if status.parent_bid is None:
            return []
        with readable(status.bid):
            telling = int(snapshot.batch.get(b"tellings", b"0"))
            index = int(snapshot.batch.get(b"parent_index", b"0"))
        told = tell_parent(self._store, status, index, telling, died=b"died" in snapshot.batch)
        self._store.settle_delivery(status.bid, PARENT, "delivered", telling)
        return [(status.parent_bid, recorded.claims) for recorded in told if recorded.due]

    def _publish(self, entry: str, declared: Declared, status: BatchStatus, queue: str | None) -> str:
        options: dict[str, Any] = {"task_id": callback_id(status.bid, entry)}
        header = {HEADER: {"bid": status.bid, "delivery": entry}}
        signature = declared.get("signature")
        if signature is None:
            task: Any = self._app.tasks[DELIVER_TASK]
            self._send(task, (status.bid, entry), headers=header, queue=queue, **options)
            return "published"
        refuse_unknown_tasks(signature, known_tasks(self._app, self._settings.callback_tasks))
        prepare_leaves(signature, options["task_id"], queue)
        callback: Any = Signature.from_dict(signature, app=self._app)
        if is_canvas(signature):
            self._send(callback, (status.as_dict(),), **options)
            return "delivered"
        headers = {**(callback.options.get("headers") or {}), **header}
        self._send(callback, (status.as_dict(),), headers=headers, **options)
        return "published"

    def _send(self, call: Any, args: tuple[Any, ...], **options: Any) -> None:
        if self._app.conf.task_always_eager:
            with outside_batch():
                call.apply_async(args, **options)
            return
        with self._lock, outside_batch():  # or the block that is open here would take it
            connection = self._connect()
            try:
                with forks.waiting(), connection.Producer(auto_declare=False) as producer:
                    call.apply_async(args, producer=producer, **options)
            except _errors_of(connection) as exc:
                self._connection = None
                connection.release()
                raise OperationalError(str(exc)) from exc

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = connect_for_callbacks(self._app)
        return self._connection


def callback_id(bid: str, entry: str) -> str:
    """The id of a callback, the same however often it is sent."""
    return f"cb_{bid}_{entry.replace(':', '_')}"


def connect_for_callbacks(app: Celery) -> Connection:
    """Make a connection to the broker that gives up after a few seconds, as kombu's own does not."""
    connection = app.connection_for_write(connect_timeout=BROKER_TIMEOUT_SECONDS, heartbeat=0)
    timeouts = _TIMEOUTS.get(connection.transport.driver_type, {})
    connection.transport_options = {**timeouts, **(connection.transport_options or {})}
    return connection


def prepare_leaves(signature: Declared, task_id: str, queue: str | None) -> None:
    """Give a callback's tasks the ids they have on every publish, and a queue where they have none."""
    for k, leaf in enumerate(walk_leaves(signature)):
        options = leaf.setdefault("options", {})
        if is_canvas(signature):
            options["task_id"] = f"{task_id}_{k}"
        if queue and not {"queue", "exchange", "routing_key"} & options.keys():
            options["queue"] = queue


def _errors_of(connection: Connection) -> tuple[type[BaseException], ...]:
    """What this transport raises when the broker is away or refuses; kombu does not always wrap it."""
    return (*connection.connection_errors, *connection.channel_errors, OperationalError, OSError)


def _fields(claim: Claim, declared: Mapping[str, Declared]) -> Fields:
    """What a log line about a delivery says of it."""
    channel = one_line(declared.get(claim.entry, {}).get("target", "nobody"), CHANNEL_AT_MOST)
    return {"event": claim.entry.partition(":")[0], "channel": channel, "attempt": claim.attempts + 1}
