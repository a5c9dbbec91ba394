"""The lists of batches: nothing falls off them or is skipped or read twice; what is over leaves them."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable

import pytest
from greenlet import getcurrent, greenlet
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_batches_notify.errors import NoSuchBatch
from celery_batches_notify.membership import Membership, Outcome
from celery_batches_notify.model import Event
from celery_batches_notify.store.paging import Position, walk_pages
from celery_batches_notify.store.store import Store
from tests.store.compared import Surroundings
from tests.support.scripts import BID, LIVES, SUCCEEDED, dead, due_now, open_batch

LISTS = ("batches:index", "batches:live")
DAY_MS = 86_400_000
KEPT = Outcome(**{f.name: getattr(dead(), f.name) for f in dataclasses.fields(Outcome)} | {"resend": "{}"})


def bids(count: int) -> list[str]:
    return [f"a-batch-{n:08d}" for n in range(count)]


def put(store: Store, key: str, scores: dict[str, float]) -> None:
    store.client.zadd(key, scores)
    store.client.expire(key, 600)


def age(store: Store, key: str, entry: str, milliseconds: int) -> None:
    """Let an entry have been put on a list so long ago."""
    store.client.zincrby(key, -milliseconds, entry)


def listed(store: Store, bid: str = BID) -> set[str]:
    """The lists that name the batch."""
    return {key for key in LISTS if store.client.zscore(key, bid) is not None}


def end(store: Store, bid: str = BID) -> None:
    """Let a batch without members end, and nothing be left to deliver."""
    open_batch(store, bid=bid, **{f"callbacks:{event}": 0 for event in ("complete", "finish", "success")})
    store.seal_batch(bid)


def sweep(store: Store) -> list[str]:
    """Retire what is over or gone, as the sweeper does; return which batches it saw."""
    seen = []
    for batch in store.walk_live():
        seen.append(batch.bid)
        if batch.ended or batch.gone:
            store.retire_batch(batch)
    store.trimmer().trim()
    return seen


# -- paging ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("size", [2, 7, 100])
def test_thousands_of_one_millisecond_are_each_seen_once(store: Store, size: int, newest_first: bool) -> None:
    scores = {bid: 1000 + n // (15 * size) for n, bid in enumerate(bids(40 * size))}
    put(store, "batches:index", scores)
    pages = list(walk_pages(store.client, "batches:index", size, newest_first=newest_first))
    seen = [position for page in pages for position in page]
    assert seen == sorted((Position(s, b.encode()) for b, s in scores.items()), reverse=newest_first)
    assert max(map(len, pages)) <= size


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_walk_goes_on_behind_any_place_that_is_named(store: Store, newest_first: bool) -> None:
    scores = {bid: 1000 + n // 25 for n, bid in enumerate(bids(100))}
    put(store, "batches:index", scores)
    whole = sorted((Position(s, b.encode()) for b, s in scores.items()), reverse=newest_first)
    for n, after in enumerate(whole):
        pages = walk_pages(store.client, "batches:index", 10, after=after, newest_first=newest_first)
        assert [position for page in pages for position in page] == whole[n + 1 :]


@settings(max_examples=100)
@given(seed=st.integers(0, 10_000), newest_first=st.booleans(), ties=st.integers(1, 80))
def test_what_stays_is_seen_once_whatever_is_removed_during_a_walk(
    around: Surroundings, seed: int, newest_first: bool, ties: int
) -> None:
    client, chance = around.client, random.Random(seed)
    client.delete("some")
    client.zadd("some", {bid: n // ties for n, bid in enumerate(bids(80))})
    client.expire("some", 600)
    removed, seen = set(), []
    for page in walk_pages(client, "some", 8, newest_first=newest_first):
        seen += [position.entry for position in page]
        left = client.zrange("some", 0, -1)
        for entry in chance.sample(left, k=min(len(left), chance.randint(0, 9))):
            client.zrem("some", entry)
            removed.add(entry)
    client.delete("some")
    assert len(seen) == len(set(seen))
    assert {bid.encode() for bid in bids(80)} - removed <= set(seen)


def test_a_sweep_sees_every_batch_though_it_retires_them_on_its_way(store: Store) -> None:
    for bid in bids(350):
        end(store, bid)
    store.client.zadd("batches:live", dict.fromkeys(bids(350), 1))
    assert sweep(store) == bids(350)
    assert store.client.zcard("batches:live") == 0


def test_the_first_batch_behind_100_000_expired_ones_costs_few_round_trips(store: Store) -> None:
    open_batch(store)
    for start in range(0, 100_000, 10_000):
        put(store, "batches:index", dict.fromkeys(bids(100_000)[start : start + 10_000], 9e12))

    def served() -> tuple[int, int]:
        stats = store.client.info("stats")
        return stats["total_commands_processed"], stats["total_reads_processed"]

    before = served()
    first = next(store.list_outlines(standings=False))
    commands, reads = (after - b for b, after in zip(before, served(), strict=True))
    assert first.bid == BID
    assert commands < 102_000, "one for each that has expired"
    assert reads < 2_000


def test_statuses_are_read_by_the_page_and_one_that_is_broken_is_left_out(store: Store) -> None:
    for bid in bids(60):
        open_batch(store, bid=bid)
    store.client.hset(store.keys.batch(bids(60)[7]), "total", "many")
    store.client.hset(store.keys.batch(bids(60)[8]), "schema", 99)
    before = store.client.info("stats")["total_reads_processed"]
    read = list(store.read_statuses([bid for page in store.walk_positions() for bid, _ in page]))
    assert store.client.info("stats")["total_reads_processed"] - before < 20
    assert {status.bid for status in read} == {*bids(60)} - {*bids(60)[7:9]}
    for status in read:
        expected = store.read_status(status.bid)
        assert dataclasses.replace(status, expires_at=expected.expires_at) == expected


def test_the_list_goes_on_behind_a_place(store: Store) -> None:
    for bid in bids(60):
        open_batch(store, bid=bid)
    (listed,) = store.walk_positions()
    for bid, position in listed:
        assert position == Position(store.client.zscore("batches:index", bid), bid.encode())
    assert [each for page in store.walk_positions(listed[9][1], 7) for each in page] == listed[10:]


# -- a batch in the making ------------------------------------------------------------------------


def test_whoever_looks_while_a_batch_is_stored_leaves_it_on_its_lists(store: Store) -> None:
    store.lists.add_batch(BID)  # and its producer is about to store it
    assert list(store.list_outlines(standings=False)) == []
    sweep(store)
    with pytest.raises(NoSuchBatch):
        store.restore_lists(BID)
    assert listed(store) == {*LISTS}


def test_what_was_never_stored_leaves_the_lists_after_a_while(store: Store) -> None:
    store.lists.add_batch(BID)
    for key in LISTS:
        age(store, key, BID, 61_000)
    sweep(store)
    assert listed(store) == set()


def test_a_producer_that_was_slow_to_store_its_batch_lists_it_once_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, now = store._run, 0.0

    def run_late(*args: object) -> object:
        nonlocal now
        now = 61.0
        store.lists.remove_batch(BID)  # what a sweeper does by then
        return run(*args)

    monkeypatch.setattr(store, "_run", run_late)
    store.open_batch(BID, {**LIVES}, clock=lambda: now)
    assert listed(store) == {*LISTS}


def test_an_entry_that_was_put_anew_in_the_same_millisecond_is_not_dropped(store: Store) -> None:
    open_batch(store)
    store.client.zadd("batches:live", {BID: 9e12})
    (seen,) = store.walk_live()
    store.lists.add_live(BID)
    store.lists.drop_live(seen)
    assert listed(store) == {*LISTS}


# -- a batch that is retired and revived at once --------------------------------------------------


def report(store: Store) -> None:
    (task_id,) = (member.id for chunk in store.walk_members(BID, 1) for member in chunk)
    store.record_outcome(Membership(bid=BID, index=0, task_id=task_id), SUCCEEDED)


REVIVERS: dict[str, Callable[[Store], object]] = {
    "a late report": report,
    "a retry": lambda store: list(store.claim_retries(BID)),
    "a redelivery": lambda store: store.redeliver_event(BID, Event.FINISH),
    "a cancel": lambda store: store.cancel_batch(BID, terminate=False),
}


def die_and_deliver(store: Store) -> None:
    """A batch that is over: one dead member, kept for a retry, and all its callbacks delivered."""
    (member,) = open_batch(store, 1, **{"callbacks:cancel": 1})
    store.seal_batch(BID)
    store.record_outcome(member, KEPT)
    due_now(store)
    for claim in store.claim_deliveries(BID).due:
        store.settle_delivery(BID, claim.entry, "delivered", 1)


def take_turns(order: tuple[str, ...], store: Store, **actors: Callable[[], object]) -> None:
    """Run actors side by side, script by script in this order; what is left then goes on in turn."""
    main = getcurrent()
    run_script = store.scripts._fast_eval.evalsha

    def evalsha(*args: object) -> object:
        if getcurrent() is not main:
            main.switch()
        return run_script(*args)

    store.scripts._fast_eval.evalsha = evalsha
    running = {name: greenlet(actor) for name, actor in actors.items()}
    for name in itertools.chain(order, itertools.cycle(actors)):
        if all(each.dead for each in running.values()):
            break
        if not running[name].dead:
            running[name].switch()
    store.scripts._fast_eval.evalsha = run_script


@pytest.mark.parametrize("retired", [False, True], ids=["over", "retired"])
@pytest.mark.parametrize("how", REVIVERS)
def test_a_batch_that_is_revived_while_it_is_retired_is_looked_after(
    around: Surroundings, how: str, retired: bool
) -> None:
    store = around.store
    for order in itertools.product("rs", repeat=7):
        store.client.flushall()
        die_and_deliver(store)
        if retired:
            sweep(store)
        take_turns(order, store, r=lambda: REVIVERS[how](store), s=lambda: (sweep(store), sweep(store)))
        over = store.read_progress(BID).finished and not int(store.client.hget(store.keys.batch(BID), "open"))
        flagged = store.client.hexists(store.keys.batch(BID), "retired")
        assert flagged or "batches:live" in listed(store), order
        assert over or not flagged, order


# -- how long the lists live ----------------------------------------------------------------------


def test_the_lists_live_as_long_as_a_batch_whose_own_lives_are_longer(store: Store) -> None:
    longest = 400 * DAY_MS
    for name in ("expires", "linger", "dead_expires"):
        store.client.flushall()
        store.open_batch(BID, {**LIVES, name: longest})
        for key in LISTS:
            assert longest - 60_000 < store.client.pttl(key) <= longest


def test_no_list_lives_shorter_because_a_batch_does(store: Store) -> None:
    store.open_batch(bids(2)[0], {**LIVES, "expires": 400 * DAY_MS})
    store.open_batch(bids(2)[1], {**LIVES})
    store.prolong_lists(1)
    assert all(store.client.pttl(key) > 399 * DAY_MS for key in LISTS)


# -- what leaves the lists ------------------------------------------------------------------------


def test_expired_batches_leave_the_list_of_all_a_part_at_a_time(store: Store) -> None:
    open_batch(store)
    put(store, "batches:index", {bid: n for n, bid in enumerate(bids(25_500))})
    trimmer = store.trimmer()
    assert [trimmer.trim() for _ in range(4)] == [10_000, 10_000, 5_500, 0]
    assert store.client.zrange("batches:index", 0, -1) == [BID.encode()]


def test_one_turn_looks_at_a_thousand_where_hardly_any_has_expired(store: Store) -> None:
    put(store, "batches:index", {bid: n for n, bid in enumerate(bids(3_000))})
    for bid in bids(3_000):
        store.client.hset(store.keys.batch(bid), "schema", 1)
        store.client.expire(store.keys.batch(bid), 600)
    gone = [bids(3_000)[n] for n in (5, 1_005, 2_005)]
    store.client.delete(*(store.keys.batch(bid) for bid in gone))
    trimmer = store.trimmer()
    left = []
    for _ in gone:
        assert trimmer.trim() == 1
        left.append([bid for bid in gone if store.client.zscore("batches:index", bid) is not None])
    assert left == [gone[1:], gone[2:], []]


def test_cancelled_batches_leave_their_list_once_they_are_over(store: Store) -> None:
    running, over, gone, fresh = bids(4)
    for bid in (running, over, gone, fresh):
        open_batch(store, bid=bid)
        store.cancel_batch(bid, terminate=bid == over)
    for bid in (over, fresh):
        store.client.hset(store.keys.batch(bid), "retired", 1)
    store.client.delete(store.keys.batch(gone))
    trimmer = store.trimmer()
    assert trimmer.trim() == 0, "workers read it every other second"
    for entry in (running, f"{over}:terminate", gone):
        age(store, "batches:cancelled", entry, DAY_MS + 1000)
    assert trimmer.trim() == 2
    assert store.read_cancelled() == {running: False, fresh: False}


def test_a_batch_is_cancelled_for_workers_as_long_as_it_runs(store: Store) -> None:
    open_batch(store)
    store.cancel_batch(BID, terminate=True)
    age(store, "batches:cancelled", f"{BID}:terminate", 4_000 * DAY_MS)
    sweep(store)
    assert store.read_cancelled() == {BID: True}


def test_a_retry_that_was_claimed_before_the_clock_was_set_back_is_sent_at_once(store: Store) -> None:
    open_batch(store, 1)
    (batch,) = store.walk_live()
    assert not batch.resend_due
    clock_ms, _ = store.find_silent(1)
    for ahead_ms, due in ((-1, True), (30_000, False), (600_000, True)):
        store.client.hset(store.keys.batch(BID), "resend_at", clock_ms + ahead_ms)
        (batch,) = store.walk_live()
        assert batch.resend_due is due, ahead_ms


def test_a_list_of_batches_reads_each_in_one_command(store: Store) -> None:
    for bid in bids(30):
        open_batch(store, 1, bid=bid, tags='["a"]')
    store.client.delete(store.keys.batch(bids(30)[7]))
    store.client.config_resetstat()
    assert [each.tags for each in store.list_outlines(standings=False)] == [("a",)] * 29
    calls = {name: int(stat["calls"]) for name, stat in store.client.info("commandstats").items()}
    assert calls["cmdstat_hmget"] == 30
    assert not calls.keys() & {"cmdstat_hgetall", "cmdstat_exists", "cmdstat_multi"}
