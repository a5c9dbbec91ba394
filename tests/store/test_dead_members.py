"""Dead members: what is kept of them, and how often and for how long they can be sent again."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import partial

import pytest

from celery_batches_notify.membership import Outcome, State
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.store.repairs import Lost
from celery_batches_notify.store.retries import Resend
from celery_batches_notify.store.store import Store
from tests.support.scripts import BID, SUCCEEDED, counts, dead, dump, failing, listening, open_batch, together

ROUNDS = 15
ATTEMPTS = 4095
NOT_JSON, TOO_LONG, GONE, TOO_MANY = "not JSON", "too long", "its message is gone", "too many dead"


def died(attempt: int = 1, *, call: str = "", why: str = NOT_JSON) -> Outcome:
    return dataclasses.replace(dead(attempt), resend=call, unsendable="" if call else why)


def stamp_of(store: Store) -> int:
    return store.read_members(BID, 0, 1)[0].stamp


def claim(store: Store) -> list[Resend]:
    return [each for chunk in store.claim_retries(BID) for each in chunk]


def unsendable(store: Store) -> dict[str, int]:
    return dict(store.read_status(BID).unsendable)


# -- rounds ---------------------------------------------------------------------------------------


def test_stamps_grow_with_every_round_and_there_is_none_after_the_fifteenth(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    stamps = []
    for round_ in range(ROUNDS + 1):
        last_run = dataclasses.replace(member, round=round_)
        assert store.record_outcome(last_run, died(2, call="{}")).word == "counted"
        stamps.append(stamp_of(store))
        assert [each.round for each in claim(store)] == ([round_ + 1] if round_ < ROUNDS else [])
        for earlier in range(round_ + (round_ < ROUNDS)):  # a late report, and one that comes again
            late = dataclasses.replace(member, round=earlier)
            for attempt in (2, 3, ATTEMPTS):
                assert store.record_outcome(late, died(attempt, call="{}")).word == "repeated"
        assert store.read_status(BID).dead == (round_ == ROUNDS)
    assert stamps == sorted(set(stamps))
    assert unsendable(store) == {"it was sent again 15 times": 1}
    assert store.record_outcome(dataclasses.replace(member, round=ROUNDS), SUCCEEDED).word == "counted"
    assert (store.read_status(BID).state, unsendable(store)) == ("success", {})


@pytest.mark.parametrize("failing_between", [False, True])
def test_a_death_in_the_last_round_voids_the_call_that_was_kept_before(
    store: Store, failing_between: bool
) -> None:
    """A store that lost the claims of the rounds between hears of the last one out of the blue."""
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    store.record_outcome(member, died(call="{}"))
    last_run = dataclasses.replace(member, round=ROUNDS)
    if failing_between:
        store.record_outcome(last_run, failing(1))
    for _ in range(2):
        store.record_outcome(last_run, died(2))
        assert unsendable(store) == {"it was sent again 15 times": 1}
    assert claim(store) == []
    store.record_outcome(last_run, SUCCEEDED)
    assert (store.read_status(BID).state, unsendable(store)) == ("success", {})


def test_what_was_kept_of_a_member_without_rounds_is_not_claimed(store: Store) -> None:
    """As an earlier version kept it, which went back a round then."""
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    store.record_outcome(dataclasses.replace(member, round=ROUNDS), died())
    store.client.hset(store.keys.part(BID, "resend"), "0", "0 {}")
    assert claim(store) == []
    assert counts(store) == (1, 0, 0, 1)


# -- attempts -------------------------------------------------------------------------------------


def age(store: Store) -> None:
    """Let the batch be silent for long, and nearly expire."""
    store.client.hset(store.keys.batch(BID), "reported_at", 1)
    for key in store.client.scan_iter(f"{store.keys.batch(BID)}*"):
        store.client.pexpire(key, 9_000)


def is_alive(store: Store) -> bool:
    reported_at = int(store.client.hget(store.keys.batch(BID), "reported_at"))
    renewed = store.client.pttl(store.keys.batch(BID)) > 9_000
    assert renewed == (reported_at > 1)
    return renewed


@pytest.mark.parametrize("attempt", [ATTEMPTS, ATTEMPTS + 1, 100_000])
def test_a_member_that_fails_more_often_than_is_counted_keeps_its_batch_alive(
    store: Store, attempt: int
) -> None:
    (member, _) = open_batch(store, 2)
    store.seal_batch(BID)
    store.record_outcome(member, failing(ATTEMPTS))
    before = dump(store)
    for _ in range(3):
        age(store)
        with listening(store) as heard:
            assert store.record_outcome(member, failing(attempt)).word == "repeated"
            assert heard() == ""
        assert is_alive(store)
    assert dump(store) == before
    assert store.record_outcome(member, died(attempt)).word == "counted"
    age(store)
    assert store.record_outcome(member, died(attempt)).word == "repeated"
    assert not is_alive(store), "one that is dead does not move"


def test_a_report_that_comes_again_is_no_sign_of_life(store: Store) -> None:
    (member, _) = open_batch(store, 2)
    store.seal_batch(BID)
    store.record_outcome(member, failing(7))
    age(store)
    for attempt in (1, 7):
        assert store.record_outcome(member, failing(attempt)).word == "repeated"
    assert not is_alive(store)


# -- why the dead cannot be sent again ------------------------------------------------------------


def test_who_succeeds_after_all_counts_no_more_as_not_to_be_sent_again(store: Store) -> None:
    members = open_batch(store, 4)
    store.seal_batch(BID)
    for member, why in zip(members, (NOT_JSON, TOO_LONG, NOT_JSON, TOO_LONG), strict=True):
        store.record_outcome(member, died(why=why))
    assert unsendable(store) == {NOT_JSON: 2, TOO_LONG: 2}
    left = Counter({NOT_JSON: 2, TOO_LONG: 2})
    for index, why in ((3, TOO_LONG), (0, NOT_JSON), (1, TOO_LONG), (2, NOT_JSON)):
        left -= Counter([why])
        for _ in range(2):
            store.record_outcome(members[index], SUCCEEDED)
            assert unsendable(store) == dict(left)
    assert store.read_status(BID).state == "success"
    assert store.client.hlen(store.keys.part(BID, "resend")) == 0


def test_reports_of_a_dead_member_count_it_once_in_any_order(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    for outcome in (died(1), died(2, why=TOO_LONG), died(2)):
        store.record_outcome(member, outcome)
    assert unsendable(store) == {NOT_JSON: 1}, "the first reason stays"
    store.record_outcome(member, failing(3))
    assert unsendable(store) == {}, "it runs again by itself"
    store.record_outcome(member, died(4, why=TOO_LONG))
    assert unsendable(store) == {TOO_LONG: 1}
    store.record_outcome(member, died(5, call="{}"))
    assert unsendable(store) == {}, "now its call is known"
    store.record_outcome(member, died(6))
    assert unsendable(store) == {}, "and stays known"
    assert [each.round for each in claim(store)] == [1]


def test_a_member_that_dies_while_it_is_sent_again_and_cannot_be_any_more_says_so(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    store.record_outcome(member, died(call="{}"))
    claimed = claim(store)
    store.record_outcome(dataclasses.replace(member, round=1), died())
    store.confirm_retries(BID, claimed, done=True)
    assert unsendable(store) == {NOT_JSON: 1}
    store.record_outcome(dataclasses.replace(member, round=1), SUCCEEDED)
    assert unsendable(store) == {}


def test_of_more_than_a_thousand_that_cannot_be_sent_again_the_rest_is_too_many(store: Store) -> None:
    members = open_batch(store, 1002)
    store.seal_batch(BID)
    for member in members:
        store.record_outcome(member, died())
    assert unsendable(store) == {NOT_JSON: 1000, TOO_MANY: 2}
    store.record_outcome(members[-1], SUCCEEDED)
    store.record_outcome(members[0], SUCCEEDED)
    assert unsendable(store) == {NOT_JSON: 999, TOO_MANY: 1}


def test_calls_and_reasons_take_no_room_from_each_other(store: Store) -> None:
    store.settings = dataclasses.replace(store.settings, retry_kept=2)
    members = open_batch(store, 8)
    store.seal_batch(BID)
    for index, member in enumerate(members):
        store.record_outcome(member, died(call="{}" if index % 2 else ""))
    assert unsendable(store) == {NOT_JSON: 4, TOO_MANY: 2}
    assert [each.index for each in claim(store)] == [1, 3]
    store.record_outcome(members[7], SUCCEEDED)
    assert unsendable(store) == {NOT_JSON: 4, TOO_MANY: 1}


def test_a_lost_member_that_is_sent_again_counts_no_more_as_not_to_be(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    store.record_outcome(member, died(1))
    retaken = store.resend_lost(member, died(2, call="{}"))
    assert (retaken.word, unsendable(store)) == ("claimed", {})


def test_a_member_that_was_written_off_counts_until_it_succeeds(store: Store) -> None:
    (member, _) = open_batch(store, 2)
    store.seal_batch(BID)
    failure = dead().failure
    assert failure
    lost = Lost(member=Member(index=0, id=member.task_id, state=State.WAITING), failure=failure)
    for _ in range(2):
        store.write_off_members(BID, [lost])
        assert unsendable(store) == {GONE: 1}
    store.record_outcome(member, SUCCEEDED)
    assert unsendable(store) == {}


def test_two_ends_of_one_member_at_once_leave_it_counted_as_the_later_one(store: Store) -> None:
    for _ in range(20):
        store.client.flushall()
        (member,) = open_batch(store, 1)
        store.seal_batch(BID)
        reports = [partial(store.record_outcome, member, outcome) for outcome in (died(), SUCCEEDED)]
        together(*reports * 4)
        assert (counts(store), unsendable(store)) == ((1, 1, 0, 0), {})


# -- how much is kept -----------------------------------------------------------------------------


def test_a_death_costs_no_more_if_very_many_failures_are_kept(store: Store) -> None:
    def looks(kept: int, *, failing_members: int) -> int:
        """At how many members' states one more death looks if so many failures are kept, all of dead ones."""
        store.client.flushall()
        store.settings = dataclasses.replace(store.settings, failures_kept=kept)
        *_, member = open_batch(store, kept + 1)
        store.seal_batch(BID)
        part = store.keys.part
        store.client.hset(store.keys.batch(BID), mapping={"dead": kept, "failing": failing_members})
        store.client.set(part(BID, "states"), b"\xaa" * (kept // 4) + b"\x00", keepttl=True)
        store.client.hset(part(BID, "failures"), mapping={str(index): "1 {}" for index in range(kept)})
        store.client.expire(part(BID, "failures"), 60)
        before = calls_of(store, "bitfield")
        assert store.record_outcome(member, died()).word == "counted"
        return calls_of(store, "bitfield") - before

    assert looks(4000, failing_members=0) == looks(40, failing_members=0)
    assert looks(40_000, failing_members=1) == looks(4000, failing_members=1)


def calls_of(store: Store, command: str) -> int:
    return int(store.client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_of_as_many_failures_as_are_usually_kept_the_one_that_may_go_is_found(store: Store) -> None:
    store.settings = dataclasses.replace(store.settings, failures_kept=100)
    members = open_batch(store, 102)
    store.seal_batch(BID)
    store.record_outcome(members[0], failing())
    for member in members[1:]:
        store.record_outcome(member, died())
    kept = {int(index) for index in store.client.hkeys(store.keys.part(BID, "failures"))}
    assert kept == set(range(1, 101))
