"""Every call of the store that changes a batch, with the state that it needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import DeliveryNote
from celery_batches_notify.store.lists import SweepLock
from celery_batches_notify.store.packing import pack_report
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.store.repairs import Lost
from celery_batches_notify.store.statuses import MANY
from celery_batches_notify.store.store import Store
from tests.support.scripts import BID, SUCCEEDED, dead, due_now, dump, failing, open_batch

IDS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(40)]
NOTE = DeliveryNote(channel="c", detail="refused")
Call = Callable[[Store], object]


def prepare(store: Store) -> None:
    """Store a sealed batch of four: succeeded, failing, dead and kept for a retry, and waiting."""
    open_batch(store, parent_bid="parent-of-them-all", parent_index=0, **{"callbacks:cancel": 1})
    store.enrol_members(BID, 0, IDS[:4], "owner")
    store.seal_batch(BID)
    for index, outcome in enumerate((SUCCEEDED, failing(), kept())):
        store.record_outcome(member(index), outcome)


def member(index: int, round_: int = 0) -> Membership:
    return Membership(bid=BID, index=index, task_id=IDS[index], round=round_)


def kept() -> Outcome:
    outcome = dead()
    return Outcome(
        state=outcome.state, attempt=1, reason="failed", failure=outcome.failure, resend="{}", unsendable=""
    )


def lost() -> list[Lost]:
    """Return a failing and a waiting member, as they were when they were looked for."""
    failure = dead().failure
    assert failure
    return [
        Lost(member=Member(index=1, id=IDS[1], state=State.FAILING, stamp=1), failure=failure),
        Lost(member=Member(index=3, id=IDS[3], state=State.WAITING), failure=failure),
    ]


def enrol_successors(store: Store) -> object:
    """Send the first part of a report with very many successors; its process dies before the outcome."""
    one = member(3)
    late = Membership(bid=BID, index=None, task_id=IDS[4], of=one.origin)
    args = pack_report(one, Outcome(state=State.SUCCEEDED, successors=(late,)), store.settings)
    return store._change(store.scripts.enrol_successors, BID, *args)


def retire(store: Store) -> object:
    (batch,) = store.walk_live()
    return store.retire_batch(batch)


def late_and_open(store: Store) -> None:
    """Leave the batch unsealed and silent, as if its producer had died."""
    store.client.hdel(store.keys.batch(BID), "sealed_at", "death_at")
    store.client.hset(store.keys.batch(BID), "abandon_at", 1)


def forgotten(store: Store) -> None:
    """Leave a note of what was counted of a batch that is gone."""
    store.client.hset(store.keys.counted, "another-of-these", "created=1")
    store.client.expire(store.keys.counted, 600)


def end(store: Store) -> None:
    for index in (1, 2, 3):
        store.record_outcome(member(index), SUCCEEDED)
    for entry in store.client.hgetall(store.keys.part(BID, "outbox")):
        version = 2 if entry == b"parent:0" else 1
        for n in range(6 if version == 2 else 2):
            store.settle_delivery(BID, entry.decode(), "delivered", n)


@cache
def lock_of(store: Store) -> SweepLock:
    return store.sweep_lock(60)


# The script, a step to take before it, and the call.
CALLS: dict[str, tuple[Call, Call]] = {
    "open_batch": (lambda _: None, lambda s: open_batch(s, bid="another-of-these")),
    "enrol_members": (lambda _: None, lambda s: s.enrol_members(BID, 4, IDS[4:], member(3))),
    "confirm_members": (lambda _: None, lambda s: s.confirm_members(BID, [0], "owner")),
    "abandon_batch": (late_and_open, lambda s: s.abandon_batch(BID)),
    "seal_batch": (lambda s: s.client.hdel(s.keys.batch(BID), "sealed_at"), lambda s: s.seal_batch(BID, [0])),
    "beat_worker": (lambda _: None, lambda s: s.beat_worker("a worker")),
    "find_silent": (lambda s: s.beat_worker("a worker"), lambda s: s.find_silent(20)[1]),
    "keep_calls": (lambda _: None, lambda s: s.keep_calls(BID, 0, [b"x", b"y"])),
    "note_action": (lambda _: None, lambda s: s.note_action(BID, '{"action": "retry"}')),
    "claim_examination": (lambda _: None, lambda s: s.claim_examination(BID, 60)),
    "resend_lost": (lambda _: None, lambda s: s.resend_lost(member(3), kept())),
    "record_outcome": (lambda _: None, lambda s: s.record_outcome(member(3), kept())),
    "record_successes": (lambda _: None, lambda s: s.record_successes(BID, [member(1), member(2)])),
    "enrol_successors": (lambda _: None, enrol_successors),
    "claim_deliveries": (due_now, lambda s: s.claim_deliveries(BID)),
    "settle_delivery": (
        lambda _: None,
        lambda s: s.settle_delivery(BID, "death:0", "due", 1, delay_seconds=60, note=NOTE),
    ),
    "cancel_batch": (lambda _: None, lambda s: s.cancel_batch(BID, terminate=False)),
    "record_death": (lambda s: s.client.hdel(s.keys.batch(BID), "had_death"), lambda s: s.record_death(BID)),
    "renew_batch": (lambda _: None, lambda s: s.renew_batch(BID)),
    "check_watches": (
        lambda s: s.client.hset(
            s.keys.batch(BID), mapping={"callbacks:stall": 1, "at:stall:0": 1, "reported_at": 1}
        ),
        lambda s: s.check_watches(BID),
    ),
    "claim_retries": (lambda _: None, lambda s: list(s.claim_retries(BID))),
    "confirm_retries": (
        lambda s: list(s.claim_retries(BID)),
        lambda s: s.confirm_retries(BID, s.read_unsent_retries(BID), done=True),
    ),
    "redeliver_event": (
        lambda s: s.settle_delivery(BID, "death:0", "given_up", 1),
        lambda s: s.redeliver_event(BID, ["death:0"]),
    ),
    "retire_batch": (end, retire),
    "revive_batch": (end, lambda s: s._run(s.scripts.revive_batch, BID)),
    "put_on_list": (lambda _: None, lambda s: s.lists.add_live(BID)),
    "hold_lock": (lambda _: None, lambda s: lock_of(s).hold()),
    "release_lock": (lambda s: lock_of(s).hold(), lambda s: lock_of(s).release()),
    "drop_entries": (
        end,
        lambda s: s.lists.drop_live(next(iter(s.walk_live()))) if list(s.walk_live()) else None,
    ),
    "prolong_list": (lambda _: None, lambda s: s.lists.prolong(1)),
    "count_batches": (lambda _: None, lambda s: s.count_batch(BID)),
    "read_fields": (lambda _: None, lambda s: s.read_outlines([BID] * MANY, standings=True)),
    "forget_batches": (forgotten, lambda s: s.trimmer().trim()),
    "ask_address": (
        lambda s: s.close_address("h", busy=False, seconds=60),
        lambda s: s.ask_address("h", "wait", who=f"{BID} death:0"),
    ),
    "note_canvas": (lambda _: None, lambda s: s.note_canvas(BID)),
    "write_off_members": (lambda _: None, lambda s: s.write_off_members(BID, lost())),
    "note_address": (lambda _: None, lambda s: s.open_address("h", answered=True)),
}


def settled(store: Store) -> dict[bytes, object]:
    """Return the content of the keys without the leases, which every claim moves."""
    held = dump(store)
    outbox = held.get(f"batches:{{{BID}}}:outbox".encode())
    if isinstance(outbox, dict):
        outbox.update({entry: b" ".join(value.split()[:2]) for entry, value in outbox.items()})
    failures = held.get(f"batches:{{{BID}}}:failures".encode())
    if isinstance(failures, dict):
        failures.update({index: value.partition(b" ")[2] for index, value in failures.items()})
    batch = held.get(f"batches:{{{BID}}}".encode())
    if isinstance(batch, dict):
        batch.pop(b"next_due", None)
        notes = {name: value.split(b" ", 2)[::2] for name, value in batch.items() if b"action:" in name}
        batch.update({name: b" ".join(parts) for name, parts in notes.items()})
    return held
