"""The examination of one batch: where its members are, line by line, for the terminal and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from celery_batches_notify.bar import count_open, count_parts
from celery_batches_notify.doctor.callbacks import find_open, judge_callback
from celery_batches_notify.doctor.diagnosis import Complaint, complain_of_workers
from celery_batches_notify.doctor.locate import LOOKED_AT, Kind, Place, Whereabouts, locate, walk_open
from celery_batches_notify.engine import Engine
from celery_batches_notify.headline import headline
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.parsing import parse_status

FIXES = {
    Kind.RUNNING: "wait for them",
    Kind.SCHEDULED: "they run when their time comes",
    Kind.RESERVED: "a worker has them in hand and runs them next",
    Kind.QUEUED: "workers take them in turn; start more if that is too slow",
    Kind.UNREAD: "start a worker with -Q for this queue, or correct the routing",
    Kind.UNACKNOWLEDGED: "they come back by the broker's visibility timeout, at the time given",
    Kind.LOST: "their worker is gone: another worker's sweeper ends them, or sends them again",
    Kind.ENDED: "their report was lost: run batch reconcile",
    Kind.CHILD: "look at that batch in the same way",
    Kind.CHILD_GONE: "it was lost: run batch reconcile --vanished dead",
    Kind.UNKNOWN: "nobody can tell; wait, or look into the broker with its own tools",
    Kind.VANISHED: "their messages are gone: run batch reconcile --vanished dead, or resend",
    Kind.UNPUBLISHED: "the batch is not sealed: its producer is publishing, or has died",
}
NEED_HANDS = {Kind.UNREAD, Kind.ENDED, Kind.CHILD_GONE, Kind.VANISHED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of what was found: for people, and as fields for programs; whether it needs hands."""

    text: str
    fields: dict[str, Any] = field(default_factory=dict)
    needs_hands: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What an examination of a batch found."""

    status: BatchStatus
    lines: tuple[Line, ...]

    @property
    def needs_hands(self) -> bool:
        """Whether something of it does not go by itself."""
        return any(line.needs_hands for line in self.lines)


def examine_batch(engine: Engine, bid: str, limit: int) -> Examination:
    """Ask store, broker, workers and result backend where the members are that a batch waits for.

    Args:
        engine: The app's.
        bid: The batch.
        limit: How many members are named one by one.

    Raises:
        NoSuchBatch: The batch is gone.
        StoreUnavailable: The store is away.
    """
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        status = parse_status(snapshot, engine.settings.stall_after)
        callbacks = find_open(engine, snapshot, status)
    members = list(islice(walk_open(engine, bid, status.total), LOOKED_AT))
    published = [callback for callback in callbacks if callback.is_published]
    lines, look = [_say_headline(status, snapshot.now), _say_counts(status)], None
    if members or published:
        tasks = [callback.as_member(-1 - k) for k, callback in enumerate(published)]
        queues = {callback.queue for callback in published if callback.queue}
        look = locate(engine, [*members, *tasks], queues=queues, since=status.created_at)
        lines += _say_sources(look)
        lines += [say_complaint(each) for each in _complain_of_no_worker(look)]
        lines += [say_complaint(each, needs_hands=True) for each in complain_of_workers(look.workers)]
    found = look.places if look else ()
    if members:
        lines += _say_members(found[: len(members)], status, limit)
    else:
        open_ = "" if status.sealed_at else "; the batch is not sealed"
        lines.append(Line(text=f"no member is waiting or failing{open_}"))
    places = {c.status.entry: at for c, at in zip(published, found[len(members) :], strict=True)}
    for callback in callbacks:
        words, fix = judge_callback(callback, snapshot.now, look, places.get(callback.status.entry))
        complaint = Complaint(subject=callback.name, words=words, fix=fix)
        lines.append(say_complaint(complaint, between=" ", needs_hands=bool(fix)))
    return Examination(status=status, lines=tuple(lines))


def say_complaint(complaint: Complaint, *, between: str = ": ", needs_hands: bool = False) -> Line:
    """Return a complaint as a line."""
    fix = f". To do: {complaint.fix}" if complaint.fix else ""
    text = f"{complaint.subject}{between}{complaint.words}{fix}"
    return Line(text=text, fields=asdict(complaint), needs_hands=needs_hands)


def _say_headline(status: BatchStatus, now: datetime) -> Line:
    """Say how the batch goes, in the sentence of its page and of messages."""
    words = headline(status, now=now)
    return Line(text=words, fields={"bid": status.bid, "headline": words})


def _say_counts(status: BatchStatus) -> Line:
    waits = count_parts(status)["waiting"]
    text = (
        f"batch {status.bid}: {status.state}; of {status.total:,} members "
        f"{status.succeeded:,} succeeded, {status.dead:,} are dead, {status.failing:,} "
        f"failing, {waits:,} wait"
    )
    return Line(text=text, fields={**status.as_dict()})


def _complain_of_no_worker(look: Whereabouts) -> Iterator[Complaint]:
    """Say that nobody takes what is queued if no worker answers, and none that lives was too busy to.

    It needs no hands, because workers may come and go.
    """
    workers = look.workers
    is_queued = any(place.kind is Kind.QUEUED for place in look.places)
    if is_queued and not (workers.workers or workers.silent or workers.why):
        yield Complaint(subject="queues", words="nobody takes from them until a worker runs", fix="")


def _say_members(places: Sequence[Place], status: BatchStatus, limit: int) -> Iterator[Line]:
    """Say where the members are."""
    open_ = count_open(status)
    places = [_rename(place, status) for place in places]
    counts = Counter(place.kind for place in places)
    for kind in (kind for kind in Kind if counts[kind]):
        fields = {"kind": kind, "count": counts[kind], "fix": FIXES[kind]}
        text = f"- {counts[kind]:,} {kind}: {FIXES[kind]}"
        yield Line(text=text, fields=fields, needs_hands=kind in NEED_HANDS)
    if len(places) < open_:
        text = f"the first {len(places):,} of {open_:,} were looked for"
        yield Line(text=text, fields={"looked_for": len(places), "open": open_})
    for place in places[:limit]:
        member, at = place.member, f" ({place.at:%Y-%m-%d %H:%M:%S} UTC)" if place.at else ""
        text = f"{member.index} {member.id}: {place.kind} {place.where}{at}"
        fields = {"index": member.index, "id": member.id, "kind": place.kind, "where": place.where}
        yield Line(text=text, fields={**fields, "at": place.at})


def _say_sources(look: Whereabouts) -> Iterator[Line]:
    lengths = ", ".join(f"{queue}: {n:,}" for queue, n in look.broker.lengths.items())
    why = f" ({look.broker.why})" if look.broker.why else ""
    text = f"queues: {lengths or 'none known'}{why}"
    yield Line(text=text, fields={"queues": look.broker.lengths, "why": look.broker.why})
    names = look.workers.why or ", ".join(look.workers.workers) or "none answered"
    fields = {"workers": list(look.workers.workers), "why": look.workers.why}
    yield Line(text=f"workers: {names}", fields=fields)
    for worker in look.workers.silent:
        text = f"{worker} lives and did not answer: nobody knows all that it has"
        yield Line(text=text, fields={"silent": worker})
    if look.results_why:
        yield Line(text=f"results: {look.results_why}", fields={"results": look.results_why})


def _rename(place: Place, status: BatchStatus) -> Place:
    """Before the seal, a member that nobody has may be about to be published."""
    if place.kind is Kind.VANISHED and status.sealed_at is None:
        return Place(member=place.member, kind=Kind.UNPUBLISHED)
    return place
