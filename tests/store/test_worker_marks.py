"""Workers in the store: beats, marks, and what becomes of a member or callback that a worker took with it."""

from __future__ import annotations

import dataclasses

import pytest
from celery import Celery

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.membership import Membership, Outcome
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.retries import Resend
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.workers import pack_record, parse_record
from tests.support.scripts import BID, SUCCEEDED, counts, dead, failing, open_batch
from tests.support.servers import wait_until


@pytest.fixture(autouse=True)
def _patient_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_batches_notify.store.one_way_connection.SECONDS", 10.0)


CALL = '{"id": "x"}'


def lost(attempt: int = 1, **more: object) -> Outcome:
    return dataclasses.replace(dead(attempt, reason="lost"), resend=CALL, unsendable="", **more)


def one_member(store: Store) -> Membership:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    return member


# -- beats and marks --------------------------------------------------------------------------------


def test_a_worker_is_known_with_its_last_beat_and_what_it_holds(store: Store) -> None:
    store.beat_worker("w")
    store.write_records("w", {f"task-{n} 0.0.0.0": pack_record({"task": n}, b"body") for n in range(1200)})
    ((wid, seconds_ago, held),) = store.read_workers()
    assert (wid, 0 <= seconds_ago < 60, len(held)) == ("w", True, 1200)
    assert held["task-7"] == {"task": 7}
    store.remove_records("w", [f"task-{n} 0.0.0.0" for n in range(1199)])
    assert [list(chunk) for chunk in store.walk_records("w")] == [["task-1199 0.0.0.0"]]
    store.remove_worker("w")
    assert not store.client.keys("*worker*")


def test_a_mark_is_written_once_and_no_reply_comes(store: Store) -> None:
    wire = store.one_way_connection("w")
    assert not wire.send(b"a", b"not open yet")
    wire.open()
    try:
        assert wire.send(b"a", b"1")
        assert wire.send(b"a", b"2")
        assert wire.send(b"b", b"1")
        assert wire.replace(b"b", b"2")
        wire.check()
        wire.check()
        key = store.keys.worker("w")
        wait_until(lambda: store.client.hgetall(key) == {b"a": b"1", b"b": b"2"})
        assert store.client.ttl(key) > 86_400
    finally:
        wire.close()


def test_a_wire_that_was_cut_is_noticed_and_opened_anew(store: Store) -> None:
    wire = store.one_way_connection("w")
    wire.open()
    store.client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnavailable):
        wire.check()
    assert not wire.is_open
    wire.open()
    assert wire.send(b"a", b"1")
    wire.close()


def test_a_user_who_may_not_silence_the_server_is_told(store: Store, any_server: str) -> None:
    store.client.execute_command("ACL", "SETUSER", "loud", "on", ">pw", "~*", "+@all", "-client")
    app = Celery(set_as_current=False)
    app.conf.batches_backend_url = any_server.replace("redis://", "redis://loud:pw@")
    other = Store(Settings.from_app(app))
    wire = other.one_way_connection("w")
    wire.open()
    with pytest.raises(StoreUnavailable, match=r"no permissions|NOPERM"):
        wait_until(wire.check, what="the refusal")
    store.client.execute_command("ACL", "DELUSER", "loud")
    other.close()


def test_wires_that_are_opened_anew_over_and_over_take_nothing_from_the_pool(any_server: str) -> None:
    app = Celery(set_as_current=False)
    app.conf.update(batches_backend_url=any_server, batches_backend_options={"max_connections": 3})
    store = Store(Settings.from_app(app))
    wire = store.one_way_connection("w")
    for _ in range(10):
        wire.open()
        wire.close()
    assert store.client.ping()
    store.close()


def test_a_worker_that_was_heard_of_again_stays_on_the_list(store: Store) -> None:
    store.beat_worker("w")
    (beat,) = store.read_beats()
    store.drop_worker(dataclasses.replace(beat, at_ms=beat.at_ms - 1000))
    assert store.read_beats()
    store.drop_worker(beat)
    assert not store.read_beats()


def test_a_mark_is_a_line_of_json_and_the_body_as_it_came() -> None:
    assert parse_record(pack_record({"a": "x\ny"}, b"\x00\nbody\n")) == ({"a": "x\ny"}, b"\x00\nbody\n")
    for broken in (b"", b"[]", b"{"):
        with pytest.raises((ValueError, TypeError)):
            parse_record(broken)


# -- what a stale mark may not do -------------------------------------------------------------------


def test_a_lost_member_is_dead_and_a_later_success_wins(store: Store) -> None:
    member = one_member(store)
    assert store.record_outcome(member, lost()).entries == ["death:0", "complete:0", "finish:0"]
    assert store.record_outcome(member, SUCCEEDED).entries == ["success:0"]
    assert counts(store) == (1, 1, 0, 0)


@pytest.mark.parametrize("counted", [SUCCEEDED, failing(), dead()], ids=["succeeded", "failing", "dead"])
@pytest.mark.parametrize("how", ["record_outcome", "resend_lost"])
def test_an_attempt_that_was_counted_is_not_lost(store: Store, counted: Outcome, how: str) -> None:
    member = one_member(store)
    store.record_outcome(member, counted)
    before = counts(store)
    result = getattr(store, how)(member, lost())
    assert result.word == "repeated"
    assert counts(store) == before


def test_a_failing_attempt_can_still_turn_out_to_be_dead(store: Store) -> None:
    member = one_member(store)
    store.record_outcome(member, failing())
    assert store.record_outcome(member, dead()).word == "counted"


def test_an_earlier_attempt_or_round_is_not_lost_while_a_newer_one_runs(store: Store) -> None:
    member = one_member(store)
    store.record_outcome(member, failing(2))
    assert store.record_outcome(member, lost(1)).word == "repeated"
    again = dataclasses.replace(lost(2), reason="failed")
    store.record_outcome(member, again)
    list(store.claim_retries(BID))
    assert store.record_outcome(member, lost(2)).word == "repeated"
    assert counts(store) == (1, 0, 1, 0)


# -- sending it again -------------------------------------------------------------------------------


def test_a_lost_member_is_claimed_once_for_another_round(store: Store) -> None:
    member = one_member(store)
    retaken = store.resend_lost(member, lost())
    assert (retaken.word, retaken.entries) == ("claimed", ["complete:0"])
    assert retaken.again == Resend(index=0, round=1, call=CALL)
    assert counts(store) == (1, 0, 1, 0)
    assert store.resend_lost(member, lost()).word == "repeated"
    assert [r.round for r in store.read_unsent_retries(BID)] == [1]
    assert store.record_outcome(dataclasses.replace(member, round=1), SUCCEEDED).word == "counted"
    assert counts(store) == (1, 1, 0, 0)


def test_a_member_that_takes_its_worker_with_it_again_and_again_is_sent_three_times(store: Store) -> None:
    member = one_member(store)
    words = [store.resend_lost(dataclasses.replace(member, round=n), lost()).word for n in range(5)]
    assert words == ["claimed", "claimed", "claimed", "exhausted", "exhausted"]
    assert store.record_outcome(dataclasses.replace(member, round=3), lost()).word == "counted"
    assert counts(store) == (1, 0, 0, 1)


def test_a_member_of_a_cancelled_batch_is_not_sent_again(store: Store) -> None:
    member = one_member(store)
    store.cancel_batch(BID, terminate=False)
    assert store.resend_lost(member, lost()).word == "cancelled"


def test_a_lost_member_that_was_never_enrolled_changes_nothing(store: Store) -> None:
    member = one_member(store)
    stranger = dataclasses.replace(member, task_id="somebody else")
    assert store.resend_lost(stranger, lost()).word == "stranger"
    assert store.resend_lost(dataclasses.replace(member, bid="0" * 22), lost()).word == "gone"
    assert counts(store) == (1, 0, 0, 0)


def test_a_late_member_is_enrolled_by_its_loss_and_sent_again_under_its_index(store: Store) -> None:
    first = one_member(store)
    late = Membership(bid=BID, index=None, task_id="the next link", of=(0, first.task_id))
    retaken = store.resend_lost(late, lost())
    assert (retaken.word, retaken.again.index) == ("claimed", 1)
    assert counts(store) == (2, 0, 1, 0)
    assert store.record_outcome(
        Membership(bid=BID, index=1, task_id="the next link", round=1), SUCCEEDED
    ).word == ("counted")


def test_a_lost_member_of_a_batch_that_had_ended_revives_it(store: Store) -> None:
    member = one_member(store)
    store.record_outcome(member, dead())
    for entry in ("death:0", "complete:0", "finish:0"):
        store.settle_delivery(BID, entry, "delivered", 1)
    (batch,) = store.walk_live()
    store.retire_batch(batch)
    assert store.resend_lost(dataclasses.replace(member, round=1), lost()).word == "claimed"
    assert [b.bid for b in store.walk_live()] == [BID]
