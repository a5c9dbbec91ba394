"""The short way of a plain success changes what the long way would have changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from celery_batches_notify.membership import Membership
from celery_batches_notify.store.packing import pack_report
from celery_batches_notify.store.store import Store
from tests.support.scripts import BID, SUCCEEDED, dead, dump, failing, listening, open_batch

IDS = [str(UUID(int=n)) for n in range(1, 5)]
MEMBERS = [Membership(bid=BID, index=n, task_id=task_id) for n, task_id in enumerate(IDS)]
ONE = MEMBERS[0]
Words = list[str]


def long(store: Store, member: Membership) -> str:
    """Report a success with all arguments: then the script does not take the short way."""
    args = pack_report(member, replace(SUCCEEDED, unsendable=""), store.settings)
    return str(store._change(store.scripts.record_outcome, member.bid, *args)[0])


def short(store: Store, member: Membership) -> str:
    return store.record_outcome(member, SUCCEEDED).word


def end_all_but(store: Store, waiting: int) -> None:
    for member in MEMBERS[waiting:]:
        long(store, member)


def keep_for_another_round(store: Store) -> None:
    store.keep_calls(BID, 0, [b"call"])
    store.client.hset(store.keys.part(BID, "resend"), "0", "1 @")


def retire(store: Store) -> None:
    store.client.hset(store.keys.batch(BID), "retired", 1)


SITUATIONS: dict[str, Callable[[Store], object]] = {
    "others wait": lambda _: None,
    "another waits": lambda s: end_all_but(s, 2),
    "no other waits": lambda s: end_all_but(s, 1),
    "others are failing": lambda s: [s.record_outcome(each, failing()) for each in MEMBERS[1:]],
    "it has succeeded": lambda s: long(s, ONE),
    "it was failing": lambda s: s.record_outcome(ONE, failing()),
    "it was dead": lambda s: s.record_outcome(ONE, dead()),
    "its call is kept": keep_for_another_round,
    "the batch is not sealed": lambda s: s.client.hdel(s.keys.batch(BID), "sealed_at"),
    "the batch is cancelled": lambda s: s.cancel_batch(BID, terminate=False),
    "the batch is retired": retire,
    "half of its life is over": lambda s: [s.client.pexpire(key, 20_000) for key in s.keys.of_batch(BID)],
    "progress has a callback": lambda s: s.client.hset(
        s.keys.batch(BID), mapping={"callbacks:progress": 1, "at:progress:0": 0.25}
    ),
    "its state was lost": lambda s: s.client.delete(s.keys.part(BID, "states")),
    "its id was lost": lambda s: s.client.delete(s.keys.part(BID, "members")),
    "another stands there": lambda s: s.client.setrange(s.keys.part(BID, "members"), 0, b"x"),
    "the batch is smaller": lambda s: s.client.hset(s.keys.batch(BID), "total", 0),
    "the batch is gone": lambda s: s.delete_batch(BID),
}


def prepare(store: Store, situation: str) -> None:
    store.client.flushdb()
    open_batch(store)
    store.enrol_members(BID, 0, IDS, "owner")
    store.seal_batch(BID)
    SITUATIONS[situation](store)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_success_changes_the_same_by_the_short_way(store: Store, situation: str) -> None:
    def report(by: Callable[[Store, Membership], str]) -> tuple[object, ...]:
        prepare(store, situation)
        with listening(store) as heard:
            words = [by(store, ONE), by(store, ONE)]
            left = round(store.client.pttl(store.keys.batch(BID)) / 10_000)
            held = re.sub(r"\b1\d{12}\b", "a time", repr(dump(store)))
            return words, held, heard(), left

    assert report(short) == report(long)


def test_most_successes_take_the_short_way(store: Store) -> None:
    prepare(store, "others wait")
    store.client.config_resetstat()
    assert short(store, ONE) == "counted"
    calls = {name: int(stat["calls"]) for name, stat in store.client.info("commandstats").items()}
    assert calls["cmdstat_hmget"] == 1
    assert "cmdstat_hincrby" not in calls
