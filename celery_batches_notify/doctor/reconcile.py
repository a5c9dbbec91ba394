"""Reconcile a batch: recover lost reports from the result backend, the broker and the workers."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from celery_batches_notify.delivery.parents import REPORT_DUE
from celery_batches_notify.doctor.locate import LOOKED_AT, Kind, ids_of, locate, walk_open
from celery_batches_notify.doctor.lost_deliveries import republish_lost
from celery_batches_notify.doctor.result_outcomes import is_end_of_canvas, outcome_from_result
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import (
    BatchesError,
    ConfigurationError,
    CorruptBatch,
    NoSuchBatch,
    SchemaTooNew,
    StoreUnavailable,
)
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import BatchStatus, Failure
from celery_batches_notify.results import RESULTS_CHUNK, find_result_backend, read_metas_since
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.store.repairs import Lost
from celery_batches_notify.store.retries import KEPT
from celery_batches_notify.store.workers import Retaken
from celery_batches_notify.text import counted

BETWEEN_LOOKS_SECONDS = 5.0
QUIET_SECONDS = 60
WRITTEN_OFF_CHUNK = 100
VANISHED = ("leave", "dead", "resend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repairs:
    """What `reconcile` did to a batch and its descendants, in numbers.

    Attributes:
        succeeded: Members counted as succeeded, as their results say.
        failing: Members counted as failing, as their results say.
        dead: Members counted as dead, as their results say: failed or revoked.
        vanished: Members counted as dead because no queue, worker or result backend has them.
        resent: Vanished members that were sent again from their kept calls.
        unsure: Members left alone: their results say that they ended, but their canvas may still be running.
        fired: Callbacks whose event was true but had not fired.
        redriven: Deliveries published again because their message was lost or late.
        listed: Lists to which a batch was restored.
        notes: Checks that were not possible, and the reason.
    """

    succeeded: int = 0
    failing: int = 0
    dead: int = 0
    vanished: int = 0
    resent: int = 0
    unsure: int = 0
    fired: int = 0
    redriven: int = 0
    listed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The number of repairs."""
        return sum(value for name, value in self.counts.items() if name != "unsure")

    @property
    def counts(self) -> dict[str, int]:
        """The numbers, by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "notes"}

    def __add__(self, other: Repairs) -> Repairs:
        """Add the numbers, and join the notes."""
        counts = {name: value + other.counts[name] for name, value in self.counts.items()}
        return Repairs(**counts, notes=tuple(dict.fromkeys(self.notes + other.notes)))


def reconcile_batch(engine: Engine, bid: str, *, vanished: str = "leave") -> Repairs:
    """Repair one batch and its descendants. Safe to repeat and to run concurrently.

    Raises:
        ConfigurationError: `vanished` is not `leave`, `dead` or `resend`.
        NoSuchBatch: The batch does not exist.
    """
    if vanished not in VANISHED:
        raise ConfigurationError(f"vanished: give one of {', '.join(VANISHED)}, not {vanished!r}")
    repairs = Repairs()
    for each in reversed(list(engine.store.walk_family(bid))):  # a parent counts its children
        try:
            repairs += _reconcile_one(engine, each, vanished)
        except (NoSuchBatch, CorruptBatch, SchemaTooNew) as exc:
            if each == bid:
                raise
            if not isinstance(exc, NoSuchBatch):
                repairs += Repairs(notes=(f"{each} was not repaired ({type(exc).__name__})",))
    return repairs


def _reconcile_one(engine: Engine, bid: str, vanished: str) -> Repairs:
    repairs = Repairs(listed=engine.store.restore_lists(bid))
    status = engine.store.read_status(bid)
    repairs += _count_results(engine, status)
    if vanished != "leave":
        repairs += _end_vanished(engine, status, resend=vanished == "resend")
    fired = engine.store.conclude_batch(bid)  # safety: conclude-repair
    engine.publisher.publish(bid, fired)
    repairs += Repairs(fired=len(fired.due), redriven=republish_lost(engine, bid))
    engine.publisher.publish(bid, REPORT_DUE)
    return repairs


def reconcile_all(engine: Engine, *, vanished: str = "leave") -> Iterator[tuple[str, Repairs]]:
    """Repair all live batches, and batches missing from the lists; take deleted batches off the lists."""
    seen = set()
    for bid in (*engine.store.walk_unlisted(), *(batch.bid for batch in engine.store.walk_live())):
        if bid not in seen:
            seen.add(bid)
            try:
                yield bid, reconcile_batch(engine, bid, vanished=vanished)
            except NoSuchBatch:
                continue
            except (ConfigurationError, StoreUnavailable):
                raise
            except Exception as exc:  # noqa: BLE001 - one unreadable batch must not stop the rest
                yield bid, Repairs(notes=(f"{bid} was not repaired ({type(exc).__name__})",))


def _count_results(engine: Engine, status: BatchStatus) -> Repairs:
    try:
        backend = find_result_backend(engine.app)
    except ConfigurationError:
        return Repairs(notes=("no result backend keeps what members returned: nothing was learnt there",))
    repairs, canvas = Repairs(), engine.store.has_canvas(status.bid)
    for members in engine.store.walk_members(status.bid, status.total):
        left = [m for m in members if m.state != State.SUCCEEDED and not m.is_batch]
        for start in range(0, len(left), RESULTS_CHUNK):
            try:
                repairs += _count_chunk(engine, backend, status, left[start : start + RESULTS_CHUNK], canvas)
            except BatchesError:
                raise
            except Exception as exc:  # noqa: BLE001 - every backend has errors of its own
                words = f"the result backend does not answer ({type(exc).__name__})"
                return repairs + Repairs(notes=(words,))
    return repairs


def _count_chunk(
    engine: Engine, backend: Any, status: BatchStatus, members: Sequence[Member], canvas: bool
) -> Repairs:
    bid, since = status.bid, status.created_at
    metas = read_metas_since(backend, [ids_of(member)[-1] for member in members], since)
    counts: Counter[str] = Counter()
    for member in members:
        meta = metas.get(ids_of(member)[-1], {})
        outcome = outcome_from_result(engine.app, member, meta)
        if outcome is None:
            continue
        success = outcome.state == State.SUCCEEDED
        if success and canvas and not is_end_of_canvas(engine.store, backend, bid, meta, since):
            counts["unsure"] += 1
            continue
        identity = Membership(bid=bid, index=member.index, task_id=member.id)
        recorded = engine.store.record_outcome(identity, outcome)
        counts[outcome.state.name.lower()] += recorded.word == "counted"
        engine.publisher.publish(bid, recorded)
    return Repairs(
        succeeded=counts["succeeded"],
        failing=counts["failing"],
        dead=counts["dead"],
        unsure=counts["unsure"],
    )


def _end_vanished(engine: Engine, status: BatchStatus, *, resend: bool) -> Repairs:
    """Mark vanished members dead, or send them again if their calls are kept."""
    bid = status.bid
    if why := _may_be_on_its_way(engine, bid):  # safety: on-its-way
        return Repairs(notes=(why,))
    repairs, members = Repairs(), walk_open(engine, bid, status.total)
    while window := list(islice(members, LOOKED_AT)):
        # A message that returns from a worker to a queue can escape one look, but not two.
        suspects, why = _find_vanished(engine, window, status.created_at)
        if suspects:
            time.sleep(BETWEEN_LOOKS_SECONDS)
            suspects, why = _find_vanished(engine, suspects, status.created_at)
        repairs += Repairs(notes=(why,) if why else ())
        for start in range(0, len(suspects), WRITTEN_OFF_CHUNK):
            chunk = suspects[start : start + WRITTEN_OFF_CHUNK]
            repairs += _send_again(engine, bid, chunk) if resend else _write_off(engine, bid, chunk)
    return repairs


def _write_off(engine: Engine, bid: str, members: Sequence[Member]) -> Repairs:
    written = engine.store.write_off_members(bid, [_give_up(member) for member in members])
    engine.publisher.publish(bid, written)
    return Repairs(vanished=written.count)


def _send_again(engine: Engine, bid: str, members: Sequence[Member]) -> Repairs:
    """Send vanished members again; those that keep vanishing die, those without a kept call stay."""
    kept = engine.store.read_kept_calls(bid, [member.index for member in members])
    taken, over, left = [], [], 0
    for member, call in zip(members, kept, strict=True):
        if member.is_batch:
            over.append(member)
            continue
        if call is None:
            left += 1
            continue
        retaken = _take_again(engine, bid, member)
        taken += [retaken.again] if retaken.again is not None else []
        over += [member] if retaken.word in ("exhausted", "cancelled") else []  # safety: cancelled-not-resent
    engine.resender.send(bid, taken)
    engine.store.confirm_retries(bid, taken, done=False)
    notes = (f"{counted(left, 'vanished member')} left waiting: their calls are not kept",) if left else ()
    return _write_off(engine, bid, over) + Repairs(resent=len(taken), notes=notes)


def _take_again(engine: Engine, bid: str, member: Member) -> Retaken:
    """Claim a member for another round, and publish what that made due."""
    identity = Membership(bid=bid, index=member.index, task_id=member.id, round=member.round)
    failure = _give_up(member).failure
    lost = Outcome(state=State.DEAD, attempt=member.attempt + 1, reason="lost", failure=failure, resend=KEPT)
    retaken = engine.store.resend_lost(identity, lost)
    engine.publisher.publish(bid, retaken)
    return retaken


def _may_be_on_its_way(engine: Engine, bid: str) -> str:
    """Why a member that nobody has yet may be about to be published, or an empty text."""
    snapshot = engine.store.read_snapshot(bid)
    left_alone = "no member was given up as vanished: the batch"
    if b"sealed_at" not in snapshot.batch:
        return f"{left_alone} is not sealed, and its producer may be publishing"
    if int(snapshot.batch.get(b"abandon_at", b"0")):
        return f"{left_alone} awaits the confirmation of what was published"
    if b"resend_at" in snapshot.batch:
        return f"{left_alone} is sending dead members again"
    if snapshot.now.timestamp() - int(snapshot.batch[b"reported_at"]) / 1000 < QUIET_SECONDS:
        return f"{left_alone} moved less than {QUIET_SECONDS} s ago"
    return ""


def _find_vanished(engine: Engine, members: Sequence[Member], since: datetime) -> tuple[list[Member], str]:
    """Return the vanished members, or the reason why that cannot be known."""
    look = locate(engine, members, since=since)
    if why := look.doubt:
        return [], f"no member was given up as vanished: {why}"
    gone = [place.member for place in look.places if place.kind in (Kind.VANISHED, Kind.CHILD_GONE)]
    return gone, ""


def _give_up(member: Member) -> Lost:
    failure = Failure(
        task_id=member.id,
        task="batch" if member.is_batch else "unknown",
        error_class="Vanished",
        error_message="no queue, worker or result backend knows it any more",
        backtrace=None,
        retries=member.attempt,
    )
    return Lost(member=member, failure=failure)
