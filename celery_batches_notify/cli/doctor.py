"""Saying what is wrong, and what to do: with the surroundings, with all live batches, or with one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from celery import Celery

from celery_batches_notify.checks import check_bid
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.doctor.broker_checks import check_broker
from celery_batches_notify.doctor.callbacks import find_open, judge_callback
from celery_batches_notify.doctor.diagnosis import Complaint, complain_of_workers, find_complaints
from celery_batches_notify.doctor.locate import (
    LOOKED_AT,
    Kind,
    Place,
    Whereabouts,
    locate,
    walk_open,
)
from celery_batches_notify.engine import Engine
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.parsing import parse_status
from celery_batches_notify.store.server_checks import check_store

Echo = Callable[[str], None]

MENDS = {
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


def examine(app: Celery, bid: str | None, limit: int, echo: Echo) -> int:
    """Examine one batch, or the surroundings and all live batches; return 1 where hands are needed, else 0.

    Raises:
        BatchesError: There is no such batch, the store is away, or a setting is wrong.
    """
    engine = engine_of(app)
    if bid is not None:
        return _examine_batch(engine, check_bid(bid), limit, echo)
    findings = [*check_store(engine.store), *check_broker(app)]
    for finding in findings:
        echo(f"{finding.severity}: {finding.subject}: {finding.words}")
    complaints = 0
    for complaint in find_complaints(engine):
        complaints += bool(complaint.fix)
        _tell(complaint, echo)
    if not complaints:
        echo("all live batches move" if not findings else "all live batches move; see the findings above")
    return 1 if complaints or any(finding.severity == "error" for finding in findings) else 0


def _examine_batch(engine: Engine, bid: str, limit: int, echo: Echo) -> int:
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        status = parse_status(snapshot, engine.settings.stall_after)
        callbacks = find_open(engine, snapshot, status)
    waits = status.total - status.succeeded - status.failures
    echo(
        f"batch {bid} {status.description}: {status.state}; of {status.total:,} members {status.succeeded:,} "
        f"succeeded, {status.dead:,} are dead, {status.failing:,} failing, {waits:,} wait"
    )
    members = list(islice(walk_open(engine, bid, status.total), LOOKED_AT))
    published = [callback for callback in callbacks if callback.is_published]
    look, hands = None, False
    if members or published:
        tasks = [callback.as_member(-1 - k) for k, callback in enumerate(published)]
        queues = {callback.queue for callback in published if callback.queue}
        look = locate(engine, [*members, *tasks], queues=queues, since=status.created_at)
        _tell_sources(look, echo)
        for complaint in complain_of_workers(look.workers):
            hands = True
            _tell(complaint, echo)
    found = look.places if look else ()
    if members:
        hands |= _tell_members(found[: len(members)], status, limit, echo)
    else:
        echo("no member is waiting or failing" + ("" if status.sealed_at else "; the batch is not sealed"))
    places = {c.status.entry: at for c, at in zip(published, found[len(members) :], strict=True)}
    for callback in callbacks:
        words, fix = judge_callback(callback, snapshot.now, look, places.get(callback.status.entry))
        echo(f"{callback.name} {words}" + (f". To do: {fix}" if fix else ""))
        hands |= bool(fix)
    return int(hands)


def _tell_members(places: Sequence[Place], status: BatchStatus, limit: int, echo: Echo) -> bool:
    """Say where the members are; return whether that needs hands."""
    open_ = status.total - status.succeeded - status.dead
    places = [_rename(place, status) for place in places]
    counts = Counter(place.kind for place in places)
    for kind in (kind for kind in Kind if counts[kind]):
        echo(f"- {counts[kind]:,} {kind}: {MENDS[kind]}")
    if len(places) < open_:
        echo(f"the first {len(places):,} of {open_:,} were looked for")
    for place in places[:limit]:
        at = f" ({place.at:%Y-%m-%d %H:%M:%S} UTC)" if place.at else ""
        echo(f"{place.member.index} {place.member.id}: {place.kind} {place.where}{at}")
    return bool(NEED_HANDS & counts.keys())


def _tell(complaint: Complaint, echo: Echo) -> None:
    echo(f"{complaint.subject}: {complaint.words}" + (f". To do: {complaint.fix}" if complaint.fix else ""))


def _tell_sources(look: Whereabouts, echo: Echo) -> None:
    lengths = ", ".join(f"{queue}: {n:,}" for queue, n in look.broker.lengths.items())
    echo(f"queues: {lengths or 'none known'}" + (f" ({look.broker.why})" if look.broker.why else ""))
    if look.workers.why:
        echo(f"workers: {look.workers.why}")
    else:
        echo(f"workers: {', '.join(look.workers.workers) or 'none answered'}")
    for worker in look.workers.silent:
        echo(f"{worker} lives and did not answer: nobody knows all that it has")
    if look.results_why:
        echo(f"results: {look.results_why}")


def _rename(place: Place, status: BatchStatus) -> Place:
    """Before the seal, a member that nobody has may be about to be published."""
    if place.kind is Kind.VANISHED and status.sealed_at is None:
        return Place(member=place.member, kind=Kind.UNPUBLISHED)
    return place
