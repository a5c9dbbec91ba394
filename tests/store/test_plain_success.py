"""The short ways of plain successes, alone and in a group, change what the long way would have changed."""

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


def grouped(store: Store, member: Membership) -> str:
    """Report a success in a group that names it twice; what the group leaves apart is reported by itself."""
    words = [
        store.record_outcome(member, SUCCEEDED).word if word == "apart" else word
        for word in store.record_successes(BID, [member, member])
    ]
    store.record_outcome(member, SUCCEEDED)
    return words[0]


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
    assert report(grouped) == report(long)


def open_many(store: Store, n: int) -> list[Membership]:
    ids = [str(UUID(int=n)) for n in range(1, n + 1)]
    open_batch(store)
    store.enrol_members(BID, 0, ids, "owner")
    store.seal_batch(BID)
    return [Membership(bid=BID, index=n, task_id=task_id) for n, task_id in enumerate(ids)]


def test_a_group_leaves_the_same_as_reports_one_by_one(store: Store) -> None:
    members = open_many(store, 700)
    order = [members[n * 37 % 700] for n in range(690)]

    def report(by: Callable[[list[Membership]], Words]) -> tuple[object, ...]:
        store.client.flushdb()
        open_many(store, 700)
        store.record_outcome(members[3], failing())
        store.record_outcome(members[8], dead())
        with listening(store) as heard:
            words = by(order)
            return words, re.sub(r"\b1\d{12}\b", "a time", repr(dump(store))), heard()

    def together(these: list[Membership]) -> Words:
        words = store.record_successes(BID, these)
        pairs = zip(these, words, strict=True)
        return [long(store, each) if word == "apart" else word for each, word in pairs]

    assert report(together) == report(lambda these: [long(store, each) for each in these])


def test_only_what_ends_a_batch_is_left_apart(store: Store) -> None:
    members = open_many(store, 10)
    words = store.record_successes(BID, [*members, members[0]])
    assert sorted(words) == ["apart", *["counted"] * 9, "repeated"]
    assert store.record_outcome(members[words.index("apart")], SUCCEEDED).word == "counted"
    assert store.read_status(BID).state == "success"


def test_a_group_counts_nobody_whose_id_stands_elsewhere(store: Store) -> None:
    members = open_many(store, 10)
    forged, successor = replace(members[2], index=3), replace(members[5], index=None)
    assert store.record_successes(BID, [forged, successor, members[6]]) == ["apart", "apart", "counted"]
    beyond = replace(members[4], index=900)
    assert store.record_successes(BID, [beyond, members[7]]) == ["apart", "apart"]
    assert store.read_status(BID).succeeded == 1


def test_a_group_takes_one_call_and_one_reading(store: Store) -> None:
    members = open_many(store, 20)
    store.record_successes(BID, members[:10])
    store.client.config_resetstat()
    assert store.record_successes(BID, members[5:15]) == ["repeated"] * 5 + ["counted"] * 5
    calls = {name: int(stat["calls"]) for name, stat in store.client.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] == calls["cmdstat_hmget"] == calls["cmdstat_setrange"] == 1


def test_most_successes_take_the_short_way(store: Store) -> None:
    prepare(store, "others wait")
    store.client.config_resetstat()
    assert short(store, ONE) == "counted"
    calls = {name: int(stat["calls"]) for name, stat in store.client.info("commandstats").items()}
    assert calls["cmdstat_hmget"] == 1
    assert "cmdstat_hincrby" not in calls
