"""Finding faults and their fixes: in the surroundings, in all live batches, or in one batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice

from celery import Celery

from celery_batches_notify.checks import check_bid
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.output import Output
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


def examine(app: Celery, out: Output, *, bid: str | None, limit: int) -> int:
    """Examine one batch, or the surroundings and all live batches; return 1 if hands are needed, else 0.

    Raises:
        BatchesError: The batch does not exist, the store is away, or a setting is wrong.
    """
    engine = engine_of(app)
    if bid is not None:
        return _examine_batch(engine, check_bid(bid), limit, out)
    findings = [*check_store(engine.store), *check_broker(app)]
    for finding in findings:
        fields = {name: getattr(finding, name) for name in ("severity", "subject", "words")}
        out.say(f"{finding.severity}: {finding.subject}: {finding.words}", **fields)
    complaints = 0
    for complaint in find_complaints(engine):
        complaints += bool(complaint.fix)
        _say_complaint(complaint, out)
    if not complaints:
        out.say("all live batches move" if not findings else "all live batches move; see the findings above")
    return 1 if complaints or any(finding.severity == "error" for finding in findings) else 0


def _examine_batch(engine: Engine, bid: str, limit: int, out: Output) -> int:
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        status = parse_status(snapshot, engine.settings.stall_after)
        callbacks = find_open(engine, snapshot, status)
    waits = status.total - status.succeeded - status.failures
    out.say(
        f"batch {bid} {status.description}: {status.state}; of {status.total:,} members {status.succeeded:,} "
        f"succeeded, {status.dead:,} are dead, {status.failing:,} failing, {waits:,} wait",
        **status.as_dict(),
    )
    members = list(islice(walk_open(engine, bid, status.total), LOOKED_AT))
    published = [callback for callback in callbacks if callback.is_published]
    look, hands = None, False
    if members or published:
        tasks = [callback.as_member(-1 - k) for k, callback in enumerate(published)]
        queues = {callback.queue for callback in published if callback.queue}
        look = locate(engine, [*members, *tasks], queues=queues, since=status.created_at)
        _say_sources(look, out)
        for complaint in complain_of_workers(look.workers):
            hands = True
            _say_complaint(complaint, out)
    found = look.places if look else ()
    if members:
        hands |= _say_members(found[: len(members)], status, limit, out)
    else:
        out.say("no member is waiting or failing" + ("" if status.sealed_at else "; the batch is not sealed"))
    places = {c.status.entry: at for c, at in zip(published, found[len(members) :], strict=True)}
    for callback in callbacks:
        words, fix = judge_callback(callback, snapshot.now, look, places.get(callback.status.entry))
        _say_complaint(Complaint(subject=callback.name, words=words, fix=fix), out, between=" ")
        hands |= bool(fix)
    return int(hands)


def _say_members(places: Sequence[Place], status: BatchStatus, limit: int, out: Output) -> bool:
    """Say where the members are; return whether that needs hands."""
    open_ = status.total - status.succeeded - status.dead
    places = [_rename(place, status) for place in places]
    counts = Counter(place.kind for place in places)
    for kind in (kind for kind in Kind if counts[kind]):
        out.say(f"- {counts[kind]:,} {kind}: {MENDS[kind]}", kind=kind, count=counts[kind], fix=MENDS[kind])
    if len(places) < open_:
        out.say(f"the first {len(places):,} of {open_:,} were looked for", looked_for=len(places), open=open_)
    for place in places[:limit]:
        at = f" ({place.at:%Y-%m-%d %H:%M:%S} UTC)" if place.at else ""
        fields = {
            "index": place.member.index,
            "id": place.member.id,
            "kind": place.kind,
            "where": place.where,
        }
        out.say(
            f"{place.member.index} {place.member.id}: {place.kind} {place.where}{at}", **fields, at=place.at
        )
    return bool(NEED_HANDS & counts.keys())


def _say_complaint(complaint: Complaint, out: Output, between: str = ": ") -> None:
    fix = f". To do: {complaint.fix}" if complaint.fix else ""
    out.say(f"{complaint.subject}{between}{complaint.words}{fix}", **asdict(complaint))


def _say_sources(look: Whereabouts, out: Output) -> None:
    lengths = ", ".join(f"{queue}: {n:,}" for queue, n in look.broker.lengths.items())
    why = f" ({look.broker.why})" if look.broker.why else ""
    out.say(f"queues: {lengths or 'none known'}{why}", queues=look.broker.lengths, why=look.broker.why)
    names = look.workers.why or ", ".join(look.workers.workers) or "none answered"
    out.say(f"workers: {names}", workers=list(look.workers.workers), why=look.workers.why)
    for worker in look.workers.silent:
        out.say(f"{worker} lives and did not answer: nobody knows all that it has", silent=worker)
    if look.results_why:
        out.say(f"results: {look.results_why}", results=look.results_why)


def _rename(place: Place, status: BatchStatus) -> Place:
    """Before the seal, a member that nobody has may be about to be published."""
    if place.kind is Kind.VANISHED and status.sealed_at is None:
        return Place(member=place.member, kind=Kind.UNPUBLISHED)
    return place
