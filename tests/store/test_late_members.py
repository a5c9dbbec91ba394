"""Canvas successors in the store: enrolled by reports, in any order, once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from celery_batches_notify.errors import BatchSealed
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.store import store as store_module
from celery_batches_notify.store.scripts import Script
from celery_batches_notify.store.store import Store
from tests.support.scripts import (
    BID,
    SUCCEEDED,
    counts,
    dead,
    dump,
    failing,
    listening,
    lives_of,
    open_batch,
    together,
)


def successor(of: Membership, task_id: str | None = None, turn: int = 0) -> Membership:
    return Membership(bid=of.bid, index=None, task_id=task_id or str(uuid4()), of=of.origin, turn=turn)


def succeeded(*successors: Membership) -> Outcome:
    return Outcome(state=State.SUCCEEDED, successors=successors)


def sealed(store: Store, members: int = 1, bid: str = BID) -> list[Membership]:
    opened = open_batch(store, members, bid=bid)
    store.seal_batch(bid)
    return opened


def test_a_report_enrols_its_successors_before_it_counts(store: Store) -> None:
    (one,) = sealed(store)
    two, three = successor(one), successor(one)
    with listening(store) as heard:
        assert store.record_outcome(one, succeeded(two, three)).entries == []
        assert counts(store) == (3, 1, 0, 0)
        assert heard() == "+"
        store.record_outcome(two, SUCCEEDED)
        assert store.record_outcome(three, SUCCEEDED).entries == ["complete:0", "finish:0", "success:0"]
        assert heard() == "++!$"
    ids = b"".join(UUID(member.task_id).bytes for member in (one, two, three))
    assert store.client.get(store.keys.part(BID, "members")) == ids
    assert store.client.hgetall(store.keys.part(BID, "late")) == {ids[16:32]: b"1", ids[32:]: b"2"}


def test_a_successor_that_reports_first_is_enrolled_by_its_own_report(store: Store) -> None:
    (one,) = sealed(store)
    two = successor(one)
    assert store.record_outcome(two, SUCCEEDED).entries == []
    assert counts(store) == (2, 1, 0, 0)
    assert store.record_outcome(one, succeeded(two)).entries == ["complete:0", "finish:0", "success:0"]
    assert counts(store) == (2, 2, 0, 0)


def chain_of(first: Membership, links: int) -> list[tuple[Membership, Outcome]]:
    members = [first, *(successor(first) for _ in range(links - 1))]
    nexts = [*((member,) for member in members[1:]), ()]
    return [(member, succeeded(*then)) for member, then in zip(members, nexts, strict=True)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_the_reports_of_a_chain_come_to_the_same_in_any_order_and_repeated(
    store: Store, order: tuple[int, ...]
) -> None:
    (one,) = sealed(store)
    reports = chain_of(one, 4)
    fired: list[str] = []
    for n, which in enumerate(order):
        due = [event for _ in range(2) for event in store.record_outcome(*reports[which]).entries]
        assert n == 3 or not due, "not before the last of them"
        fired += due
    assert fired == ["complete:0", "finish:0", "success:0"]
    assert counts(store) == (4, 4, 0, 0)
    before = dump(store)
    for member, outcome in reports:
        assert store.record_outcome(member, outcome).word == "repeated"
    assert dump(store) == before


def test_the_reports_of_a_chain_from_sixteen_threads_enrol_and_count_each_link_once(store: Store) -> None:
    for n in range(30):
        bid = f"chain-{n:08d}"
        (one,) = sealed(store, bid=bid)
        reports = chain_of(one, 4)
        answers = together(*(lambda r=r: store.record_outcome(*r) for r in reports * 4))
        assert sorted(answer.word for answer in answers) == ["counted"] * 4 + ["repeated"] * 12
        assert [len(answer.due) for answer in answers if answer.due] == [3]
        assert counts(store, bid) == (4, 4, 0, 0)


def test_a_chain_that_breaks_leaves_nothing_waiting(store: Store) -> None:
    (one,) = sealed(store)
    two = successor(one)
    store.record_outcome(one, succeeded(two))
    assert store.record_outcome(two, dead()).entries == ["death:0", "complete:0", "finish:0"]
    assert counts(store) == (2, 1, 0, 1)


def test_complete_fires_while_a_link_waits_for_its_retry_and_finish_does_not(store: Store) -> None:
    (one,) = sealed(store)
    two, three = successor(one), successor(one)
    store.record_outcome(one, succeeded(two))
    assert store.record_outcome(two, failing()).entries == ["complete:0"]
    assert store.record_outcome(two, succeeded(three)).entries == []
    assert store.record_outcome(three, SUCCEEDED).entries == ["finish:0", "success:0"]


def test_a_repeated_report_still_enrols_what_only_it_knows(store: Store) -> None:
    """A redelivered member calls its link once more, under a new id."""
    (one,) = sealed(store)
    links = [successor(one), successor(one)]
    store.record_outcome(one, succeeded(links[0]))
    assert store.record_outcome(one, succeeded(links[1])).word == "repeated"
    assert counts(store) == (3, 1, 0, 0)
    assert [bool(store.record_outcome(link, SUCCEEDED).due) for link in links] == [False, True]


def test_once_all_have_succeeded_nothing_is_enrolled_any_more(store: Store) -> None:
    (one,) = sealed(store)
    store.record_outcome(one, SUCCEEDED)
    before = dump(store)
    assert store.record_outcome(successor(one), SUCCEEDED).word == "stranger"
    assert store.record_outcome(one, succeeded(successor(one))).word == "repeated"
    assert dump(store) == before


def test_a_successor_of_a_member_in_a_lost_process_is_enrolled_by_its_own_report(store: Store) -> None:
    one, two = sealed(store, 2)
    late = successor(one)
    store.record_outcome(one, dead(reason="lost"))
    store.record_outcome(two, SUCCEEDED)
    store.record_outcome(late, SUCCEEDED)
    assert counts(store) == (3, 2, 0, 1)
    assert store.read_status(BID).state == "dead"


def test_a_forged_claim_enrols_nothing(store: Store) -> None:
    one, two = sealed(store, 2)
    before = dump(store)
    stranger = str(uuid4())
    for of in (None, (0, stranger), (1, one.task_id), (2, one.task_id), (10**9, one.task_id), (0, "")):
        forged = Membership(bid=BID, index=None, task_id=stranger, of=of)
        assert store.record_outcome(forged, SUCCEEDED).word == "stranger"
        assert store.record_outcome(forged, succeeded(successor(one))).word == "stranger"
        with pytest.raises(BatchSealed):
            store.enrol_members(BID, 2, [stranger], forged)
    index_of_another = Membership(bid=BID, index=0, task_id=two.task_id)
    assert store.record_outcome(index_of_another, succeeded(successor(one))).word == "stranger"
    assert dump(store) == before


def test_a_claim_that_names_nobody_counts_once_it_was_announced(store: Store) -> None:
    (one,) = sealed(store)
    two = successor(one)
    bare = Membership(bid=BID, index=None, task_id=two.task_id)
    assert store.record_outcome(bare, SUCCEEDED).word == "stranger"
    store.record_outcome(one, succeeded(two))
    assert store.record_outcome(bare, SUCCEEDED).word == "counted"


def test_a_task_replaced_by_a_canvas_and_the_part_with_its_id_are_two_members(
    store: Store,
) -> None:
    (one,) = sealed(store)
    heir = successor(one, one.task_id, turn=1)
    store.record_outcome(one, succeeded(heir))
    store.record_outcome(heir, dead())
    assert counts(store) == (2, 1, 0, 1)
    assert store.client.hgetall(store.keys.part(BID, "names")) == {b"1": one.task_id.encode()}


def test_late_ids_that_are_no_uuids_are_kept_in_full_whoever_tells_first(store: Store) -> None:
    (one,) = sealed(store)
    announced, came_first = successor(one, "my task ☃"), successor(one, "other")
    store.record_outcome(came_first, SUCCEEDED)
    store.record_outcome(one, succeeded(announced, came_first))
    names = store.client.hgetall(store.keys.part(BID, "names"))
    assert names == {b"1": b"other", b"2": "my task ☃".encode()}


def test_a_late_member_adds_to_its_batch_until_it_has_ended(store: Store) -> None:
    (one,) = sealed(store)
    late = successor(one)
    assert store.enrol_members(BID, 1, [str(uuid4())], late) == 1, "also before anybody told of it"
    store.record_outcome(one, succeeded(late))
    assert store.enrol_members(BID, 3, [str(uuid4())], late) == 3
    store.record_outcome(late, SUCCEEDED)
    with pytest.raises(BatchSealed):
        store.enrol_members(BID, 4, [str(uuid4())], late)


def test_successors_and_members_added_at_the_same_time_get_places_of_their_own(store: Store) -> None:
    members = open_batch(store, 8)
    adders = [lambda m=m: store.enrol_members(BID, 8, [str(uuid4()) for _ in range(5)], m) for m in members]
    reports = [lambda m=m: store.record_outcome(m, failing_with(m)) for m in members]

    def failing_with(member: Membership) -> Outcome:
        return Outcome(state=State.FAILING, attempt=1, successors=tuple(successor(member) for _ in range(5)))

    together(*adders, *reports)
    assert counts(store) == (88, 0, 8, 0)
    stored = store.client.get(store.keys.part(BID, "members"))
    assert len({stored[i : i + 16] for i in range(0, len(stored), 16)}) == 88


def test_a_lost_hash_of_late_members_enrols_nobody_twice(store: Store) -> None:
    (one,) = sealed(store)
    two, three = successor(one), successor(one)
    store.record_outcome(one, succeeded(two, three))
    store.record_outcome(two, SUCCEEDED)
    store.client.delete(store.keys.part(BID, "late"))
    for late in (two, three):
        assert store.record_outcome(late, SUCCEEDED).word == "corrupt"
    assert counts(store) == (3, 2, 0, 0)
    assert store.read_status(BID).complete_at is None


def test_late_members_share_the_life_of_their_batch(store: Store) -> None:
    (one,) = sealed(store)
    store.record_outcome(one, succeeded(successor(one), successor(one, "no uuid")))
    lives = lives_of(store)
    assert len(lives) == 6
    assert 0 < max(lives) - 1000 < min(lives)


def test_a_late_report_brings_a_retired_batch_back(store: Store) -> None:
    (one,) = sealed(store)
    store.record_outcome(one, dead())
    for event in ("death", "complete", "finish"):
        store.settle_delivery(BID, f"{event}:0", "delivered", 1)
    (live,) = [batch for batch in store.walk_live() if batch.bid == BID]
    store.retire_batch(live)
    assert [batch.bid for batch in store.walk_live()] == []
    assert store.record_outcome(successor(one), SUCCEEDED).word == "counted"
    assert [batch.bid for batch in store.walk_live()] == [BID]


# -- chord bodies ---------------------------------------------------------------------------------


def part_of_header(*body: Membership, publishes: bool = False) -> Outcome:
    return Outcome(state=State.SUCCEEDED, body=body, successors=body if publishes else ())


def test_a_body_that_is_announced_with_the_last_part_of_its_header_is_one_member(store: Store) -> None:
    one, two = sealed(store, 2)
    body = successor(one)
    assert store.record_outcome(one, part_of_header(body)).entries == []
    assert counts(store) == (2, 1, 0, 0), "it is enrolled no sooner, or a header that fails would leave it"
    assert store.record_outcome(two, part_of_header(body, publishes=True)).entries == []
    assert counts(store) == (3, 2, 0, 0)
    assert store.record_outcome(body, SUCCEEDED).entries == ["complete:0", "finish:0", "success:0"]


def test_a_body_published_by_another_delivery_of_the_last_part_holds_the_batch(store: Store) -> None:
    one, two = sealed(store, 2)
    bodies = [successor(one), successor(one, "no uuid")]
    store.record_outcome(one, part_of_header(*bodies))
    for _ in range(2):
        assert store.record_outcome(two, part_of_header(*bodies)).entries == []
        assert counts(store) == (4, 2, 0, 0)
    assert store.record_outcome(two, part_of_header(*bodies, publishes=True)).word == "repeated"
    assert [bool(store.record_outcome(body, SUCCEEDED).due) for body in bodies] == [False, True]
    assert counts(store) == (4, 4, 0, 0)


def test_a_body_is_awaited_also_when_a_member_outside_the_chord_succeeds_last(store: Store) -> None:
    part, other = sealed(store, 2)
    bodies = [successor(part) for _ in range(3)]
    for body in bodies:
        store.record_outcome(part, part_of_header(body))
    store.record_outcome(part, part_of_header(bodies[0]))
    assert store.record_outcome(other, SUCCEEDED).entries == []
    total, *_ = counts(store)
    assert total == 3, "of one member only its first success says what it awaits"


def test_a_header_that_failed_once_awaits_no_body_and_its_batch_is_cut_short(store: Store) -> None:
    """Celery fails the body with the first part of the header that dies; no later success brings it back."""
    one, two = sealed(store, 2)
    body = successor(one)
    store.record_outcome(one, part_of_header(body))
    store.record_outcome(two, dead())
    for _ in range(2):
        assert store.record_outcome(two, part_of_header(body)).entries == []
        assert counts(store) == (2, 2, 0, 0)
        status = store.read_status(BID)
        assert (status.state, status.cut_short, status.success_at) == ("dead", True, None)


def test_a_death_elsewhere_that_was_made_good_cuts_no_chord_short(store: Store) -> None:
    one, two, other = sealed(store, 3)
    body = successor(one)
    store.record_outcome(other, dead())
    store.record_outcome(one, part_of_header(body))
    store.record_outcome(two, part_of_header(body, publishes=True))
    store.record_outcome(body, SUCCEEDED)
    assert store.record_outcome(other, SUCCEEDED).entries == ["success:0"]
    assert not store.read_status(BID).cut_short


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1])), ids=str)
def test_a_part_of_a_header_that_celery_does_not_count_awaits_no_body(
    store: Store, order: tuple[int, ...]
) -> None:
    one, two = sealed(store, 2)
    reports = [
        (one, part_of_header(successor(one))),
        (two, Outcome(state=State.SUCCEEDED, breaks_chord=True)),
    ]
    due = [event for which in order for event in store.record_outcome(*reports[which]).entries]
    assert due == ["complete:0", "finish:0", "success:0"]


# -- reports of any size --------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many successors one script takes: few, so that a report of some brings more."""
    monkeypatch.setattr(store_module, "AT_ONCE", 3)
    return 3


@pytest.mark.parametrize("brought", range(11))
def test_a_report_that_is_told_in_parts_comes_to_the_same_as_a_whole(
    store: Store, at_once: int, monkeypatch: pytest.MonkeyPatch, brought: int
) -> None:
    def told(at_once: int) -> dict[bytes, object]:
        store.client.flushall()
        (one, two) = sealed(store, 2)
        late = [dataclasses.replace(successor(one, f"no uuid {n}"), turn=n % 2) for n in range(brought)]
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "AT_ONCE", at_once)
            assert store.record_outcome(one, succeeded(*late)).word == "counted"
            assert store.record_outcome(one, succeeded(*late)).word == "repeated"
        held = dump(store)
        members = held.pop(f"batches:{{{BID}}}:members".encode())
        assert len(members) == 16 * (2 + brought)
        for member in (*late, two):
            store.record_outcome(member, SUCCEEDED)
        assert store.read_status(BID).state == "success"
        return held

    assert told(at_once) == told(1000)


def test_a_report_whose_process_dies_between_its_parts_counts_nobody_and_may_repeat(
    store: Store, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = sealed(store)
    late = [successor(one) for _ in range(10)]
    totals = []
    for parts in range(1, 4):
        left = iter(range(parts))

        def change(script: Script, *args: object, left: Iterator[int] = left) -> object:
            if next(left, None) is None:
                raise ConnectionError("the process dies")
            return Store._change(store, script, *args)

        with monkeypatch.context() as patch, pytest.raises(ConnectionError):
            patch.setattr(store, "_change", change)
            store.record_outcome(one, succeeded(*late))
        totals.append(counts(store))
        for member in late[: 3 * parts]:  # they have run, and say so
            assert store.record_outcome(member, SUCCEEDED).entries == []
    assert totals == [(4, 0, 0, 0), (7, 3, 0, 0), (10, 6, 0, 0)]
    assert store.read_status(BID).complete_at is None
    assert store.record_outcome(one, succeeded(*late)).word == "counted"
    assert counts(store) == (11, 10, 0, 0)
    assert store.record_outcome(late[-1], SUCCEEDED).entries == ["complete:0", "finish:0", "success:0"]


def test_a_report_in_parts_from_sixteen_threads_counts_once(store: Store, at_once: int) -> None:
    for n in range(10):
        bid = f"parts-{n:08d}"
        (one,) = sealed(store, bid=bid)
        late = [successor(one) for _ in range(10)]
        reports = [(one, succeeded(*late)), *((member, SUCCEEDED) for member in late)]
        answers = together(*(lambda r=r: store.record_outcome(*r) for r in reports * 2))
        assert not [answer for answer in answers if isinstance(answer, Exception)]
        assert sum(bool(answer.due) for answer in answers) == 1
        assert counts(store, bid) == (11, 11, 0, 0)


@pytest.mark.parametrize("why", ["stranger", "gone"])
def test_a_report_in_parts_that_is_refused_says_so(store: Store, at_once: int, why: str) -> None:
    (one,) = sealed(store)
    if why == "gone":
        store.delete_batch(BID)
    else:
        one = dataclasses.replace(one, task_id=str(uuid4()))
    before = dump(store)
    assert store.record_outcome(one, succeeded(*(successor(one) for _ in range(10)))).word == why
    assert dump(store) == before


def test_no_script_enrols_more_than_a_thousand(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    brought: list[int] = []

    def change(script: Script, bid: str, *args: bytes) -> object:
        brought.append(len(args[11]) // 16)
        return Store._change(store, script, bid, *args)

    (one,) = sealed(store)
    monkeypatch.setattr(store, "_change", change)
    assert store.record_outcome(one, succeeded(*(successor(one) for _ in range(4500)))).word == "counted"
    assert counts(store) == (4501, 1, 0, 0)
    assert brought == [1000, 1000, 1000, 1000, 500]
