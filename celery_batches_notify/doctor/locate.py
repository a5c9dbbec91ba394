"""Locate the members that a batch waits for, in the broker, the workers and the result backend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain

from celery import states
from celery.backends.base import DisabledBackend

from celery_batches_notify.doctor.broker_queues import BrokerReading, Message, read_broker
from celery_batches_notify.doctor.worker_tasks import WorkersReading, add_leases, ask_workers
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.membership import State
from celery_batches_notify.results import (
    RESULTS_CHUNK,
    Meta,
    find_result_backend,
    read_metas,
    read_metas_since,
)
from celery_batches_notify.store.parsing import Member

LOOKED_AT = 100_000
INSPECT_SECONDS = 1.0
_TURN = re.compile(r"(.+)#[1-9][0-9]*")


class Kind(StrEnum):
    """The kinds of places where a member can be."""

    RUNNING = "running"
    SCHEDULED = "scheduled"
    RESERVED = "reserved"
    QUEUED = "queued"
    UNREAD = "in a queue that no worker reads"
    UNACKNOWLEDGED = "taken by a worker that is not there"
    LOST = "lost"
    ENDED = "ended, not counted"
    CHILD = "a batch"
    CHILD_GONE = "a batch that is gone"
    UNKNOWN = "unknown"
    UNPUBLISHED = "not published"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one member is: the kind; the queue, worker or state; and since or until when."""

    member: Member
    kind: Kind
    where: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """The result of one look at broker, workers and result backend.

    Attributes:
        places: One per wanted member.
        broker: The broker's answer.
        workers: The workers' answers.
        results_why: Why the result backend could not be read, or an empty text.
    """

    places: tuple[Place, ...]
    broker: BrokerReading
    workers: WorkersReading
    results_why: str = ""

    @property
    def doubt(self) -> str:
        """Why a member that was not found may still exist, or an empty text."""
        away = self.results_why if "answer" in self.results_why else ""
        silent = ", ".join(self.workers.silent)
        bare = ", ".join(self.workers.bare)
        return (
            self.broker.why
            or self.workers.why
            or away
            or (f"no answer from {silent}" if silent else "")
            or (f"{bare} has no batches, and does not report what it runs" if bare else "")
        )


def walk_open(engine: Engine, bid: str, total: int) -> Iterator[Member]:
    """Yield the members that the batch waits for: waiting or failing."""
    for member in chain.from_iterable(engine.store.walk_members(bid, total)):
        if member.state in (State.WAITING, State.FAILING):
            yield member


def locate(
    engine: Engine,
    members: Sequence[Member],
    *,
    queues: Iterable[str] = (),
    since: datetime | None = None,
    seconds: float = INSPECT_SECONDS,
) -> Whereabouts:
    """Locate these members. An unreachable broker or result backend raises nothing.

    Args:
        engine: The engine of the app.
        members: The wanted members; the caller limits their number (`LOOKED_AT`).
        queues: Names of queues to search in addition to the configured ones.
        since: Ignore older results, of earlier tasks with the same ids; None if the ids are unique.
        seconds: How long to wait for the workers' answers to each of five questions.
    """
    wanted = {task_id for member in members for task_id in ids_of(member)}
    # Messages move in this order, so one that moves meanwhile is still found. The store was read before.
    queues = tuple(queues)
    broker = read_broker(engine.app, queues, wanted.__contains__)
    workers = NOBODY if broker.is_away else ask_workers(engine.app, seconds)
    if not broker.readable and workers.queues:  # workers may consume queues that are not configured here
        broker = read_broker(engine.app, (*queues, *workers.queues), wanted.__contains__)
    workers = add_leases(workers, engine.store, wanted.__contains__)
    held = [_place_in_hand(engine, member, broker, workers) for member in members]
    lost = [member for member, place in zip(members, held, strict=True) if place is None]
    metas, why = read_results(engine, lost, since)
    places = [
        place or _place_elsewhere(member, metas, broker, workers)
        for member, place in zip(members, held, strict=True)
    ]
    return Whereabouts(places=tuple(places), broker=broker, workers=workers, results_why=why)


NOBODY = WorkersReading(why="the workers cannot be asked without the broker")


def ids_of(member: Member) -> tuple[str, ...]:
    """Return the task ids of a member: the last part of a canvas bears the id of the task it replaced."""
    turn = _TURN.fullmatch(member.id)
    return (member.id, turn[1]) if turn else (member.id,)


def read_results(
    engine: Engine, members: Sequence[Member], since: datetime | None
) -> tuple[dict[int, Meta], str]:
    """Return the stored results by member index, and why the result backend cannot be read, if so."""
    try:
        backend = find_result_backend(engine.app)
    except ConfigurationError:
        none = isinstance(engine.app.backend, DisabledBackend)
        return {}, "there is no result backend" if none else "the result backend keeps no results"
    tasks = [member for member in members if not member.is_batch]
    metas: dict[int, Meta] = {}
    try:
        for start in range(0, len(tasks), RESULTS_CHUNK):
            chunk = tasks[start : start + RESULTS_CHUNK]
            ids = [ids_of(member)[-1] for member in chunk]
            found = read_metas_since(backend, ids, since) if since else read_metas(backend, ids)
            metas |= {m.index: _slim(meta) for m in chunk if (meta := found.get(ids_of(m)[-1]))}
    except Exception as exc:  # noqa: BLE001 - every backend has errors of its own
        return metas, f"the result backend does not answer ({type(exc).__name__})"
    return metas, ""


def _slim(meta: Meta) -> Meta:
    """Drop the return value: it may be large, and is not needed here."""
    return {**meta, "result": None} if meta.get("status") == states.SUCCESS else meta


def _place_in_hand(
    engine: Engine, member: Member, broker: BrokerReading, workers: WorkersReading
) -> Place | None:
    if member.is_batch:
        child = engine.store.read_progress(member.id)
        kind, where = (Kind.CHILD, child.state) if child else (Kind.CHILD_GONE, "")
        return Place(member=member, kind=kind, where=where)
    holder = next((workers.holders[i] for i in ids_of(member) if i in workers.holders), None)
    if holder is not None:
        return Place(member=member, kind=Kind(holder.held), where=holder.worker, at=holder.at)
    message = next((broker.found[i] for i in ids_of(member) if i in broker.found), None)
    if message is None or message.taken_at is not None:
        return None
    unread = workers.workers and message.queue not in workers.queues
    ahead = f"{message.queue}, {message.position:,} of {broker.lengths.get(message.queue, 0):,} before it"
    return Place(member=member, kind=Kind.UNREAD if unread else Kind.QUEUED, where=ahead)


def _place_elsewhere(
    member: Member, metas: Mapping[int, Meta], broker: BrokerReading, workers: WorkersReading
) -> Place:
    state = str(metas.get(member.index, {}).get("status", ""))
    if state in states.READY_STATES:
        return Place(member=member, kind=Kind.ENDED, where=state)
    message = next((broker.found[i] for i in ids_of(member) if i in broker.found), None)
    if message is not None:
        return Place(
            member=member, kind=Kind.UNACKNOWLEDGED, where=message.queue, at=_back_at(message, broker)
        )
    # safety: bare-worker
    if not broker.readable or workers.why or workers.silent or workers.bare:  # like `Whereabouts.doubt`
        return Place(member=member, kind=Kind.UNKNOWN)
    return Place(member=member, kind=Kind.VANISHED)


def _back_at(message: Message, broker: BrokerReading) -> datetime | None:
    if message.taken_at is None or broker.visibility_seconds is None:
        return None
    return datetime.fromtimestamp(message.taken_at, UTC) + timedelta(seconds=broker.visibility_seconds)
