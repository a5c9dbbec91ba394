"""Explain what each unfinished callback of a batch waits for, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery_batches_notify.delivery.callbacks import Declared, prepare_signature, route_of
from celery_batches_notify.doctor.locate import Kind, Place, Whereabouts
from celery_batches_notify.engine import Engine
from celery_batches_notify.membership import State
from celery_batches_notify.messages.headers import DELIVER_TASK, callback_id
from celery_batches_notify.model import BatchStatus, CallbackStatus
from celery_batches_notify.store.outbox import parse_entry
from celery_batches_notify.store.parsing import Member, Snapshot, parse_deliverable

QUIET = timedelta(minutes=1)
PUBLISHED_FOR_LONG = timedelta(hours=1)
START_A_READER = "start a worker with -Q {queue}, or correct the routing"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCallback:
    """A callback that is unfinished or was given up.

    Attributes:
        bid: Its batch.
        status: How far it has come.
        since: When it is due or, once it is published, when its task last reported.
        queue: The queue to which it is published, or an empty text if only the broker knows.
    """

    bid: str
    status: CallbackStatus
    since: datetime
    queue: str

    @property
    def name(self) -> str:
        """The name shown to people."""
        return f"the callback {self.status.entry} ({self.status.target})"

    @property
    def is_published(self) -> bool:
        """Whether the broker or a worker has it."""
        return self.status.state == "published"

    def as_member(self, index: int) -> Member:
        """Return its task in the form that `locate` searches for."""
        return Member(index=index, id=callback_id(self.bid, self.status.entry), state=State.WAITING)


def find_open(engine: Engine, snapshot: Snapshot, status: BatchStatus) -> list[OpenCallback]:
    """Return the callbacks of a batch that are unfinished or were given up."""
    declared = parse_deliverable(snapshot)
    return [
        OpenCallback(
            bid=status.bid,
            status=callback,
            since=parse_entry(snapshot.outbox.get(callback.entry.encode())).at,
            queue=_queue_of(engine, declared[callback.entry], snapshot),
        )
        for callback in status.callbacks
        if callback.state in ("due", "published", "given_up")
    ]


def judge_callback(
    callback: OpenCallback, now: datetime, look: Whereabouts | None = None, place: Place | None = None
) -> tuple[str, str]:
    """Describe the state of a callback, and the fix; the fix is empty if nothing needs doing.

    Args:
        callback: The callback.
        now: The store's time.
        look: The answers of broker and workers, if they were asked.
        place: The place of its task.
    """
    waited = now - callback.since
    if callback.status.state == "given_up":
        again = f"batch redeliver {callback.bid} --event {callback.status.event}"
        return "was given up", f"batch show {callback.bid} --deliveries says why; then {again}"
    if callback.status.state == "due":
        if callback.status.waits_for is not None and waited <= QUIET:
            until = f"{callback.since:%Y-%m-%d %H:%M:%S} UTC"
            return f"waits for {callback.status.waits_for}, until {until} at the latest", ""
        if waited > QUIET:
            words = f"is due since {span(waited)} and nobody publishes it"
            return words, "start a worker: its sweeper publishes it; or run: batch sweep"
        return f"is due in {span(-waited)}" if waited < timedelta() else "is due", ""
    words = f"was published, and nothing was heard of it for {span(waited)}"
    if look is None or place is None:
        return words, f"see where it is: batch doctor {callback.bid}" if waited > PUBLISHED_FOR_LONG else ""
    where, fix = _judge_place(callback, look, place)
    moves = place.kind in (Kind.VANISHED, Kind.ENDED) and waited <= QUIET
    return f"{words}: {where}", "" if moves else fix


def span(length: timedelta) -> str:
    """Format a duration in the largest unit that it holds at least twice."""
    seconds = round(length.total_seconds())
    for unit_seconds, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_seconds:
            return f"{seconds // unit_seconds} {unit}"
    return f"{seconds} s"


def _judge_place(callback: OpenCallback, look: Whereabouts, place: Place) -> tuple[str, str]:
    if place.kind is Kind.UNKNOWN:
        return _judge_queue(callback.queue, look)
    bid, where = callback.bid, place.where
    start_a_reader = START_A_READER.format(queue=where.partition(",")[0])
    at = f" ({place.at:%Y-%m-%d %H:%M:%S} UTC)" if place.at else ""
    judged = {
        Kind.QUEUED: (f"in the queue {where}", ""),
        Kind.UNREAD: (f"in the queue {where}, and no worker takes from it", start_a_reader),
        Kind.VANISHED: ("its message is gone", f"batch reconcile {bid} sends it again"),
        Kind.ENDED: (f"it ended, {where}, and its report was lost", f"batch reconcile {bid} counts it"),
    }
    return judged.get(place.kind, (f"{place.kind} {where}{at}", ""))


def _judge_queue(queue: str, look: Whereabouts) -> tuple[str, str]:
    """Describe a published callback when the broker's messages cannot be read."""
    if queue not in look.broker.lengths:
        return "nobody can tell where it is", ""
    words = f"its queue {queue} holds {look.broker.lengths[queue]:,} messages"
    if look.workers.workers and queue not in look.workers.queues:
        return f"{words}, and no worker takes from it", START_A_READER.format(queue=queue)
    return words, ""


def _queue_of(engine: Engine, declared: Declared, snapshot: Snapshot) -> str:
    """Return the queue to which Celery's router sends a callback here."""
    app, queue = engine.app, engine.publisher.queue_of(snapshot)
    try:
        route: dict[str, Any] = {"route_name": DELIVER_TASK, "queue": queue}
        if "notifier" not in declared:
            prepare_signature(app, declared["signature"], "", queue)
            route = route_of(app, declared["signature"])
        name = route.pop("route_name")
        routed = app.amqp.router.route({key: value for key, value in route.items() if value}, name)
    except Exception:  # noqa: BLE001 - a user's router may raise any exception
        return ""
    return str(getattr(routed.get("queue"), "name", routed.get("queue") or ""))
