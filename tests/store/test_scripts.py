from __future__ import annotations

import dataclasses
import itertools
from uuid import UUID, uuid4

import pytest

from celery_batches_notify.errors import BatchSealed, NoSuchBatch, SchemaTooNew
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.store.store import Store
from tests.support.scripts import (
    BID,
    SUCCEEDED,
    counts,
    dead,
    due_now,
    dump,
    ended,
    failing,
    listening,
    lives_of,
    open_batch,
    outbox,
    together,
)

# -- open and enrol -------------------------------------------------------------------------------


def test_opening_twice_leaves_the_first_batch(store: Store) -> None:
    open_batch(store, 2)
    open_batch(store, description="another")
    assert store.read_status(BID).description == ""
    assert counts(store) == (2, 0, 0, 0)


def test_enrolling_twice_enrols_once(store: Store) -> None:
    open_batch(store)
    ids = [str(uuid4()) for _ in range(1000)]
    assert store.enrol_members(BID, 0, ids, "owner") == 0
    before = dump(store)
    assert store.enrol_members(BID, 0, ids, "owner") == 0
    assert dump(store) == before
    assert store.client.get(store.keys.part(BID, "members")) == b"".join(UUID(i).bytes for i in ids)


def test_sixteen_adders_at_once_get_places_of_their_own(store: Store) -> None:
    open_batch(store)
    groups = [[str(uuid4()) for _ in range(50)] for _ in range(16)]
    firsts = together(*(lambda g=g: store.enrol_members(BID, 0, g, "owner") for g in groups))
    assert sorted(firsts) == [50 * i for i in range(16)]
    stored = store.client.get(store.keys.part(BID, "members"))
    for first, group in zip(firsts, groups, strict=True):
        assert stored[first * 16 : (first + 50) * 16] == b"".join(UUID(i).bytes for i in group)


def test_ids_that_are_no_uuids_are_kept_in_full(store: Store) -> None:
    open_batch(store)
    store.enrol_members(BID, 0, ["my task ☃", str(uuid4()), "other"], "owner")
    names = store.client.hgetall(store.keys.part(BID, "names"))
    assert names == {b"0": "my task ☃".encode(), b"2": b"other"}
    store.record_outcome(Membership(bid=BID, index=0, task_id="my task ☃"), SUCCEEDED)
    assert counts(store) == (3, 1, 0, 0)


def test_only_the_owner_adds_before_the_seal_unless_the_batch_is_kept_open(store: Store) -> None:
    open_batch(store, 1)
    with pytest.raises(BatchSealed):
        store.enrol_members(BID, 1, [str(uuid4())], "other")
    other = BID[::-1]
    open_batch(store, 1, bid=other, keep_open=1)
    assert store.enrol_members(other, 0, [str(uuid4())], "other") == 1


def test_after_the_seal_only_a_member_that_has_not_ended_adds(store: Store) -> None:
    one, two = open_batch(store, 2)
    store.seal_batch(BID)
    forged = Membership(bid=BID, index=0, task_id=str(uuid4()))
    for adder in ("owner", "other", forged):
        with pytest.raises(BatchSealed):
            store.enrol_members(BID, 2, [str(uuid4())], adder)
    assert store.enrol_members(BID, 2, [str(uuid4())], one) == 2
    store.record_outcome(one, SUCCEEDED)
    with pytest.raises(BatchSealed):
        store.enrol_members(BID, 3, [str(uuid4())], one)
    store.record_outcome(two, failing())
    assert store.enrol_members(BID, 3, [str(uuid4())], two) == 3


# -- seal -----------------------------------------------------------------------------------------


def test_sealing_twice_fires_once(store: Store) -> None:
    open_batch(store)
    with listening(store) as heard:
        assert store.seal_batch(BID).entries == ["complete:0", "finish:0", "success:0"]
        assert store.seal_batch(BID).entries == []
        assert heard() == "!$"


def test_nothing_fires_before_the_seal(store: Store) -> None:
    one, two = open_batch(store, 2)
    with listening(store) as heard:
        assert store.record_outcome(one, SUCCEEDED).entries == []
        assert store.record_outcome(two, dead()).entries == []
        assert heard() == "+-"
        assert store.seal_batch(BID).entries == ["death:0", "complete:0", "finish:0"]
        assert heard() == "!"


# -- record ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [SUCCEEDED, failing(), dead()], ids=["succeeded", "failing", "dead"])
def test_a_report_counts_once_from_sixteen_threads(store: Store, outcome: Outcome) -> None:
    members = open_batch(store, 20)
    store.seal_batch(BID)
    with listening(store) as heard:
        for member in members:
            words = together(*(lambda m=member: store.record_outcome(m, outcome).word for _ in range(16)))
            assert sorted(words) == ["counted"] + ["repeated"] * 15
        token = "+" if outcome is SUCCEEDED else "-"
        assert heard().replace("!", "").replace("$", "") == token * 20
    total, *rest = counts(store)
    assert total == 20
    assert sorted(rest) == [0, 0, 20]


REPORTS = {"ok": SUCCEEDED, "failing": failing(1), "dead": dead(1), "failing2": failing(2), "dead2": dead(2)}
# What two reports of one member leave, in either order: success wins, then the newer attempt, then death.
LEAVES = {
    ("ok", "failing"): "ok",
    ("ok", "dead"): "ok",
    ("ok", "failing2"): "ok",
    ("ok", "dead2"): "ok",
    ("failing", "dead"): "dead",
    ("failing", "failing2"): "failing",
    ("failing", "dead2"): "dead",
    ("dead", "failing2"): "failing",
    ("dead", "dead2"): "dead",
    ("failing2", "dead2"): "dead",
}


@pytest.mark.parametrize("pair", LEAVES, ids="-".join)
def test_two_reports_leave_the_same_in_either_order(store: Store, pair: tuple[str, str]) -> None:
    left = []
    for order in itertools.permutations(pair):
        store.client.flushall()
        member, _ = open_batch(store, 2)
        for _ in range(2):
            for word in order:
                store.record_outcome(member, REPORTS[word])
            left.append(counts(store))
    expected = {"ok": (2, 1, 0, 0), "failing": (2, 0, 1, 0), "dead": (2, 0, 0, 1)}[LEAVES[pair]]
    assert left == [expected] * 4


def test_each_failed_attempt_is_one_token(store: Store) -> None:
    (member,) = open_batch(store, 1)
    with listening(store) as heard:
        for attempt in (1, 1, 2, 3, 2, 3):
            store.record_outcome(member, failing(attempt))
        store.record_outcome(member, dead(3))
        store.record_outcome(member, dead(4))
        store.record_outcome(member, SUCCEEDED)
        store.record_outcome(member, failing(5))
        assert heard() == "----+"


def test_attempts_beyond_what_two_bytes_hold_still_end(store: Store) -> None:
    (member,) = open_batch(store, 1)
    for attempt in (4094, 4095, 4096, 100_000):
        store.record_outcome(member, failing(attempt))
    assert counts(store) == (1, 0, 1, 0)
    store.record_outcome(member, dead(100_001))
    assert counts(store) == (1, 0, 0, 1)


def test_complete_comes_with_the_first_run_of_all_and_success_after_the_retry(store: Store) -> None:
    one, two = open_batch(store, 2)
    store.seal_batch(BID)
    with listening(store) as heard:
        assert store.record_outcome(one, failing()).entries == []
        assert store.record_outcome(two, SUCCEEDED).entries == ["complete:0"]
        assert store.record_outcome(one, SUCCEEDED).entries == ["finish:0", "success:0"]
        assert heard() == "-+!+$"
    status = store.read_status(BID)
    assert status.complete_at <= status.success_at
    assert status.state == "success"


def test_success_can_come_after_a_death_and_nothing_fires_twice(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    assert store.record_outcome(member, dead()).entries == ["death:0", "complete:0", "finish:0"]
    assert store.record_outcome(member, dead(2)).entries == []
    assert store.read_status(BID).state == "dead"
    assert store.record_outcome(member, SUCCEEDED).entries == ["success:0"]
    assert store.read_status(BID).state == "success"


def test_a_cancelled_member_is_dead_without_a_death(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    assert store.record_outcome(member, dead(reason="cancelled")).entries == ["complete:0", "finish:0"]
    assert store.read_status(BID).death_at is None


def test_the_last_two_members_at_once_fire_each_event_once(store: Store) -> None:
    for round_ in range(200):
        bid = f"round-{round_:08d}"
        one, two = open_batch(store, 2, bid=bid)
        store.seal_batch(bid)
        answers = together(
            lambda m=one: store.record_outcome(m, SUCCEEDED), lambda m=two: store.record_outcome(m, SUCCEEDED)
        )
        assert sorted(len(a.due) for a in answers) == [0, 3]


def test_a_stranger_changes_nothing(store: Store) -> None:
    member, _ = open_batch(store, 2)
    before = dump(store)
    for stranger in (
        Membership(bid=BID, index=0, task_id=str(uuid4())),
        Membership(bid=BID, index=1, task_id=member.task_id),
        Membership(bid=BID, index=2, task_id=member.task_id),
        Membership(bid=BID, index=10**9, task_id=member.task_id),
    ):
        assert store.record_outcome(stranger, SUCCEEDED).word == "stranger"
    assert dump(store) == before


def test_a_report_for_a_batch_that_is_gone_makes_no_key(store: Store) -> None:
    member = Membership(bid=BID, index=0, task_id=str(uuid4()))
    assert store.record_outcome(member, dead()).word == "gone"
    assert store.settle_delivery(BID, "complete:0", "delivered", 1).word == "gone"
    with pytest.raises(NoSuchBatch):
        store.seal_batch(BID)
    with pytest.raises(NoSuchBatch):
        store.enrol_members(BID, 0, [str(uuid4())], "owner")
    with pytest.raises(NoSuchBatch):
        store.claim_deliveries(BID)
    assert store.client.dbsize() == 0


@pytest.mark.parametrize("lost", ["", "states", "members", "attempts", "failures", "outbox"])
def test_a_batch_that_lost_a_key_never_counts_wrong_nor_fires_early(store: Store, lost: str) -> None:
    one, two, three = open_batch(store, 3)
    store.seal_batch(BID)
    store.record_outcome(one, SUCCEEDED)
    store.record_outcome(two, failing())
    store.client.delete(store.keys.part(BID, lost) if lost else store.keys.batch(BID))
    for member in (one, one, two):
        store.record_outcome(member, SUCCEEDED)
    if not lost:
        assert not store.client.exists(*store.keys.of_batch(BID)[:1])
        return
    total, succeeded, fails, deads = counts(store)
    assert total == 3
    assert succeeded + fails + deads <= 2
    assert store.read_status(BID).complete_at is None
    assert store.record_outcome(three, SUCCEEDED).word in ("counted", "corrupt")


def test_a_newer_schema_is_refused_and_left_alone(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.client.hset(store.keys.batch(BID), "schema", 99)
    before = dump(store)
    for call in (
        lambda: store.record_outcome(member, SUCCEEDED),
        lambda: store.seal_batch(BID),
        lambda: store.enrol_members(BID, 1, [str(uuid4())], "owner"),
    ):
        with pytest.raises(SchemaTooNew, match="upgrade"):
            call()
    assert dump(store) == before


def test_a_channel_that_is_denied_changes_no_count(store: Store) -> None:
    store.client.execute_command("ACL", "SETUSER", "mute", "+@all", "~*", "resetchannels", "on", ">secret")
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    url = store.settings.backend_url.replace("redis://", "redis://mute:secret@")
    muted = Store(dataclasses.replace(store.settings, backend_url=url))
    with listening(store) as heard:
        assert muted.record_outcome(member, SUCCEEDED).word == "counted"
        assert heard() == ""
    muted.client.close()
    assert counts(store) == (1, 1, 0, 0)
    assert store.read_status(BID).state == "success"


def test_scripts_come_back_after_the_server_forgot_them(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.client.script_flush()
    assert store.record_outcome(member, SUCCEEDED).word == "counted"


@pytest.mark.parametrize("first", [1, 26, 51, 76])
def test_progress_fires_with_the_member_that_makes_up_its_share(store: Store, first: int) -> None:
    percents = range(first, first + 25)
    shares = {f"at:progress:{n}": percent / 100 for n, percent in enumerate(percents)}
    members = open_batch(store, 100, **{"callbacks:progress": 25}, **shares)
    store.seal_batch(BID)
    for done, member in enumerate(members, 1):
        store.record_outcome(member, SUCCEEDED)
        fired = {entry for entry in outbox(store) if entry.startswith("progress:")}
        assert fired == {f"progress:{n}" for n, percent in enumerate(percents) if percent <= done}


# -- failures -------------------------------------------------------------------------------------


def test_success_takes_its_own_failure_away(store: Store) -> None:
    one, two = open_batch(store, 2)
    store.record_outcome(one, failing())
    store.record_outcome(two, failing())
    store.record_outcome(one, SUCCEEDED)
    assert [f.retries for f in store.read_status(BID).failure_info] == [0]


def test_a_dead_members_failure_evicts_a_failing_ones(store: Store) -> None:
    members = open_batch(store, 5)
    for member in members[:3]:
        store.record_outcome(member, failing())
    store.record_outcome(members[3], ended(State.FAILING, message="no room"))
    store.record_outcome(members[4], ended(State.DEAD, message="dead"))
    messages = [f.error_message for f in store.read_status(BID).failure_info]
    assert len(messages) == 3
    assert messages[-1] == "dead"
    assert "no room" not in messages


# -- another round --------------------------------------------------------------------------------


def test_a_retry_claims_each_dead_member_once_and_nothing_where_none_is_left(store: Store) -> None:
    one, two = open_batch(store, 2)
    assert [r for chunk in store.claim_retries(BID) for r in chunk] == []
    for member in (one, two):
        store.record_outcome(member, dataclasses.replace(dead(), resend="{}"))
    claimed = [(r.index, r.round) for chunk in store.claim_retries(BID) for r in chunk]
    assert sorted(claimed) == [(0, 1), (1, 1)]
    assert [r for chunk in store.claim_retries(BID) for r in chunk] == []
    assert counts(store) == (2, 0, 2, 0)


# -- deliveries -----------------------------------------------------------------------------------


def test_what_just_fired_is_leased_to_the_one_who_fired_it(store: Store) -> None:
    open_batch(store)
    store.seal_batch(BID)
    assert store.claim_deliveries(BID).due == []


def test_a_claim_is_given_to_one_of_sixteen_in_firing_order(store: Store) -> None:
    open_batch(store)
    store.seal_batch(BID)
    due_now(store)
    claims = together(*(lambda: store.claim_deliveries(BID).due for _ in range(16)))
    (won,) = [c for c in claims if c]
    assert [c.entry for c in won] == ["complete:0", "finish:0", "success:0"]


@pytest.mark.parametrize("order", list(itertools.permutations(["published", "delivered"])), ids="-".join)
def test_delivered_stands_whichever_comes_first(store: Store, order: tuple[str, str]) -> None:
    open_batch(store)
    store.seal_batch(BID)
    for happened in (*order, *order):
        store.settle_delivery(BID, "complete:0", happened, 1)
    assert outbox(store)["complete:0"] == "delivered 1"


@pytest.mark.parametrize("order", list(itertools.permutations(["published", "due"])), ids="-".join)
def test_a_failed_attempt_is_due_again_whichever_comes_first(store: Store, order: tuple[str, str]) -> None:
    open_batch(store)
    store.seal_batch(BID)
    for happened in (*order, *order):
        store.settle_delivery(BID, "complete:0", happened, 1, delay_seconds=100)
    assert outbox(store)["complete:0"] == "due 1"
    assert store.settle_delivery(BID, "complete:0", "published", 2).word == "settled"
    assert outbox(store)["complete:0"] == "published 2"


@pytest.mark.parametrize("happened", ["due", "postponed"])
def test_what_is_said_late_of_an_earlier_attempt_does_not_send_the_present_one_again(
    store: Store, happened: str
) -> None:
    open_batch(store)
    store.seal_batch(BID)
    for word, attempt in (("published", 1), ("due", 1), ("published", 2)):
        store.settle_delivery(BID, "complete:0", word, attempt, delay_seconds=100)
    assert store.settle_delivery(BID, "complete:0", happened, 1, delay_seconds=100).word == "repeated"
    assert outbox(store)["complete:0"] == "published 2"


def test_given_up_is_final_but_for_a_delivery_that_arrived(store: Store) -> None:
    open_batch(store)
    store.seal_batch(BID)
    for happened in ("given_up", "given_up", "published", "due"):
        store.settle_delivery(BID, "complete:0", happened, 1)
    assert outbox(store)["complete:0"].startswith("given_up")
    store.settle_delivery(BID, "complete:0", "delivered", 1)
    assert outbox(store)["complete:0"].startswith("delivered")


def test_an_unknown_delivery_is_not_invented(store: Store) -> None:
    open_batch(store, 1)
    assert store.settle_delivery(BID, "complete:0", "delivered", 1).word == "unknown"
    assert outbox(store) == {}


# -- lives ----------------------------------------------------------------------------------------


def life(store: Store) -> float:
    lives = lives_of(store)
    assert max(lives) - min(lives) < 1000, "all keys of a batch expire together"
    return max(lives)


def settle_all(store: Store) -> None:
    for entry in outbox(store):
        store.settle_delivery(BID, entry, "delivered", 1)


def test_a_running_batch_lives_expires_after_it_last_moved(store: Store) -> None:
    one, *_ = open_batch(store, 3)
    for key in store.keys.of_batch(BID):
        store.client.pexpire(key, 20_000)
    store.record_outcome(one, SUCCEEDED)
    assert 20_000 < life(store) <= 60_000


def test_a_successful_batch_lingers_from_its_last_delivery_on(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    store.record_outcome(member, SUCCEEDED)
    assert life(store) > 40_000
    settle_all(store)
    assert 10_000 < life(store) <= 30_000
    for key in store.keys.of_batch(BID):
        store.client.pexpire(key, 10_000)
    store.record_outcome(member, SUCCEEDED)
    assert life(store) <= 10_000, "a repeated report does not make it live longer"


def test_a_batch_with_dead_members_lives_dead_expires(store: Store) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    store.record_outcome(member, dead())
    settle_all(store)
    assert 60_000 < life(store) <= 90_000


def test_a_given_up_delivery_keeps_nothing_alive(store: Store) -> None:
    open_batch(store)
    store.seal_batch(BID)
    for entry in outbox(store):
        store.settle_delivery(BID, entry, "given_up", 1)
    assert life(store) <= 30_000
