"""How far a delivery has come: what is lost, silent or put off, and which attempt it was."""

from __future__ import annotations

import logging

import pytest

from celery_batches_notify.model import DeliveryNote
from celery_batches_notify.store.store import Store
from tests.support.scripts import BID, open_batch, outbox

ENTRY = "complete:0"
WEEK_MS = 7 * 24 * 3600 * 1000
NOTE = DeliveryNote(channel="proj.report", detail="its process was lost")


@pytest.fixture
def fired(store: Store) -> Store:
    """A store with a batch whose callbacks are due."""
    open_batch(store)
    store.seal_batch(BID)
    return store


def settle(store: Store, happened: str, attempt: int = 0, delay: float = 5, number: int = 0) -> str:
    note = None if happened in ("published", "postponed", "retried") else NOTE
    settled = store.settle_delivery(
        BID, ENTRY, happened, attempt, delay_seconds=delay, note=note, number=number
    )
    return settled.word


def set_entry(store: Store, **changes: object) -> None:
    """Change the time or the last attempt's time of the delivery, and let the sweeper see that."""
    names = ("state", "attempts", "at", "number", "last_at")
    entry = dict(zip(names, outbox_entry(store).split(), strict=True)) | changes
    store.client.hset(store.keys.part(BID, "outbox"), ENTRY, " ".join(map(str, entry.values())))


def outbox_entry(store: Store) -> str:
    return str(store.client.hget(store.keys.part(BID, "outbox"), ENTRY).decode())


def at_of(store: Store) -> int:
    return int(store.client.hget(store.keys.part(BID, "outbox"), ENTRY).split()[2])


def now_ms(store: Store) -> int:
    seconds, micros = store.client.time()
    return seconds * 1000 + micros // 1000


def last_heard(store: Store, ago_ms: int) -> None:
    """Let the delivery be published, and last heard of so long ago."""
    _, attempts, *_ = store.client.hget(store.keys.part(BID, "outbox"), ENTRY).split()
    heard = now_ms(store) - ago_ms
    store.client.hset(store.keys.part(BID, "outbox"), ENTRY, b"published %b %d" % (attempts, heard))


def lines(store: Store) -> list[tuple[str, int, str, str]]:
    return [(line.outcome, line.attempt, line.channel, line.detail) for line in store.read_deliveries(BID)]


# -- which attempt it was -------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["delivered", "given_up"])
def test_what_ended_before_its_publisher_said_so_was_tried_once(fired: Store, end: str) -> None:
    settle(fired, end)
    assert outbox(fired)[ENTRY] == f"{end} 1"
    settle(fired, "published", 1)
    assert outbox(fired)[ENTRY] == f"{end} 1"


def test_a_second_attempt_that_ends_before_its_publisher_said_so_is_the_second(fired: Store) -> None:
    for happened, attempt in (("published", 1), ("lost", 0), ("delivered", 0), ("published", 2)):
        settle(fired, happened, attempt)
    assert outbox(fired)[ENTRY] == "delivered 2"
    assert settle(fired, "published", 2) == "repeated"


def test_what_was_put_off_before_its_publisher_said_so_is_not_published_for_ever(fired: Store) -> None:
    """The task found its receiver closed, while the process that had published it was slow to say so."""
    assert settle(fired, "postponed", 1, number=1) == "settled"
    assert settle(fired, "published", 1, number=1) == "repeated"
    assert outbox(fired)[ENTRY] == "due 0"
    assert settle(fired, "published", 1, number=2) == "settled"


def test_a_callback_lost_before_its_publisher_said_that_it_left_is_sent_again(fired: Store) -> None:
    """Its process died while the one that had published it was slow to say so."""
    assert settle(fired, "lost", number=1) == "settled"
    assert settle(fired, "lost", number=1) == "repeated", "one loss, noted twice"
    assert settle(fired, "published", 1, number=1) == "repeated"
    assert outbox(fired)[ENTRY] == "due 1"
    assert settle(fired, "published", 2, number=2) == "settled"


def test_a_callback_that_is_always_lost_before_its_publisher_says_so_is_given_up(fired: Store) -> None:
    words = [settle(fired, "lost", number=number) for number in range(1, 9)]
    assert words == ["settled"] * 7 + ["given_up"]


def test_what_was_put_off_counts_no_attempt(fired: Store) -> None:
    for happened in ("published", "postponed"):
        settle(fired, happened, 1, number=1)
    assert outbox(fired)[ENTRY] == "due 0"


@pytest.mark.parametrize(
    "happened", ["published", "due", "postponed", "lost", "given_up", "skipped", "silent"]
)
def test_only_the_present_claim_moves_a_delivery(fired: Store, happened: str) -> None:
    """A process that was stalled with its claim finds that another one has the delivery now."""
    set_entry(fired, at=1)
    (claim,) = (c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY)
    assert claim.number == 2
    before = outbox_entry(fired)
    assert settle(fired, happened, 1, number=1) == "repeated"
    assert outbox_entry(fired) == before
    settle(fired, "published", 1, number=2)
    before = outbox_entry(fired)
    assert settle(fired, happened, 2, number=1) == "repeated"
    assert outbox_entry(fired) == before
    assert settle(fired, "delivered", 1, number=1) == "settled", "an arrival counts, whoever says so"


# -- the last attempt -----------------------------------------------------------------------------


def test_what_is_due_gets_its_last_attempt_27_hours_after_its_event(fired: Store) -> None:
    last_at = int(outbox_entry(fired).split()[4])
    assert now_ms(fired) - 60_000 < last_at - 27 * 3600 * 1000 <= now_ms(fired)
    settle(fired, "due", 1, delay=40 * 3600, number=1)
    set_entry(fired, last_at=now_ms(fired))
    claims = [c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY]
    assert [(c.last, c.attempts) for c in claims] == [(True, 1)]
    assert [c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY] == [], "it is taken once"


def test_a_limit_of_its_own_counts_from_its_event(store: Store) -> None:
    open_batch(store)
    store.client.hset(store.keys.batch(BID), f"give_up_after:{ENTRY}", 5000)
    store.seal_batch(BID)
    assert 0 < int(outbox_entry(store).split()[4]) - now_ms(store) <= 5000


@pytest.mark.parametrize("happened", ["due", "postponed", "lost"])
def test_after_its_last_attempt_nothing_is_due_again(fired: Store, happened: str) -> None:
    set_entry(fired, last_at=1)
    (claim,) = (c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY)
    settle(fired, "published", 1, number=claim.number)
    number = 0 if happened == "lost" else claim.number
    assert settle(fired, happened, 0 if happened == "lost" else 1, number=number) == "given_up"
    assert outbox(fired)[ENTRY].startswith("given_up")


def test_a_notification_that_stays_silent_is_published_once_more_and_given_up(fired: Store) -> None:
    """Its message may be lost, or wait in a queue that nobody has read for days."""
    fired.client.hset(fired.keys.batch(BID), f"notifies:{ENTRY}", 1)
    settle(fired, "published", 1, number=1)
    set_entry(fired, last_at=1)
    (claim,) = (c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY)
    assert (claim.last, claim.silent, claim.number) == (True, False, 2)
    settle(fired, "published", 2, number=2)
    assert [c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY] == []
    set_entry(fired, at=now_ms(fired) - 3600 * 1000 - 1)
    (claim,) = (c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY)
    assert claim.silent
    assert settle(fired, "silent", 2, number=2) == "given_up"


def test_a_task_of_the_users_may_take_longer_than_that(fired: Store) -> None:
    settle(fired, "published", 1, number=1)
    set_entry(fired, last_at=1, at=now_ms(fired) - 3600 * 1000 - 1)
    assert [c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY] == []


# -- once more ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "ago", "again", "with_ended"),
    [
        ("published", 60, False, False),
        ("published", 301, True, True),
        ("due", -5, False, False),
        ("due", -600, True, True),
        ("due", 1, True, True),
        ("given_up", 60, True, True),
        ("delivered", 60, False, True),
        ("skipped", 60, False, True),
    ],
)
def test_what_was_given_up_or_is_stuck_is_taken_again(
    fired: Store, state: str, ago: int, again: bool, with_ended: bool
) -> None:
    fired.client.hset(fired.keys.batch(BID), f"notifies:{ENTRY}", 1)
    for ended, expected in ((False, again), (True, with_ended)):
        set_entry(fired, state=state, at=now_ms(fired) - ago * 1000, number=7, last_at=0)
        claims = fired.redeliver_event(BID, [ENTRY], ended=ended).due
        assert [(c.entry, c.attempts, c.number) for c in claims] == ([(ENTRY, 0, 8)] if expected else [])
        assert [int(outbox_entry(fired).split()[4]) > 0] == [expected], "it has all its time again"


def test_a_task_of_the_users_is_stuck_after_an_hour(fired: Store) -> None:
    for minutes, taken in ((59, 0), (61, 1)):
        set_entry(fired, state="published", at=now_ms(fired) - minutes * 60_000)
        assert len(fired.redeliver_event(BID, [ENTRY]).due) == taken


def test_in_bulk_only_what_was_given_up_since_then_is_taken(fired: Store) -> None:
    now = now_ms(fired)
    set_entry(fired, state="given_up", at=now - 10_000)
    assert fired.redeliver_event(BID, [ENTRY], since_ms=now - 5_000).due == []
    assert len(fired.redeliver_event(BID, [ENTRY], since_ms=now - 20_000).due) == 1


# -- lost -----------------------------------------------------------------------------------------


def test_a_lost_delivery_waits_twice_as_long_each_time_and_is_given_up_the_eighth(
    fired: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for attempt in range(1, 8):
        assert settle(fired, "published", attempt) == "settled"
        before = now_ms(fired)
        assert settle(fired, "lost") == "settled"
        assert settle(fired, "lost") == "repeated"
        wait = 5000 * 2 ** (attempt - 1)
        assert before + wait <= at_of(fired) <= now_ms(fired) + wait
    settle(fired, "published", 8)
    with caplog.at_level(logging.ERROR):
        assert settle(fired, "lost") == "given_up"
    assert settle(fired, "lost") == "repeated"
    assert outbox(fired)[ENTRY] == "given_up 8"
    failed = [("failed", attempt, "proj.report", NOTE.detail) for attempt in range(1, 8)]
    assert lines(fired) == [*failed, ("given_up", 8, "proj.report", NOTE.detail)]
    words = f"batch {BID} 'complete' by proj.report: given up (attempt 8): {NOTE.detail}"
    assert [record.getMessage() for record in caplog.records] == [words]


@pytest.mark.parametrize("happened", ["lost", "retried", "silent"])
@pytest.mark.parametrize("end", ["delivered", "given_up", "skipped"])
def test_what_has_ended_is_neither_lost_nor_retried_nor_silent(fired: Store, happened: str, end: str) -> None:
    settle(fired, "published", 1)
    settle(fired, end, 1)
    assert settle(fired, happened) == "repeated"
    assert outbox(fired)[ENTRY] == f"{end} 1"


# -- silent ---------------------------------------------------------------------------------------


def test_nothing_heard_for_a_week_of_what_was_published_is_named_to_the_sweeper(fired: Store) -> None:
    settle(fired, "published", 1)
    for ago, named in ((WEEK_MS - 60_000, False), (WEEK_MS + 1, True)):
        last_heard(fired, ago)
        claims = fired.claim_deliveries(BID).due
        assert [(c.entry, c.attempts) for c in claims if c.silent] == ([(ENTRY, 1)] if named else [])
        assert settle(fired, "silent", 1) == ("given_up" if named else "repeated")
    assert lines(fired) == [("given_up", 1, "proj.report", NOTE.detail)]


def test_a_batch_that_is_kept_for_longer_waits_as_long_for_its_callbacks(store: Store) -> None:
    open_batch(store, expires=2 * WEEK_MS)
    store.seal_batch(BID)
    settle(store, "published", 1)
    last_heard(store, 2 * WEEK_MS - 60_000)
    assert store.claim_deliveries(BID).due == []
    assert settle(store, "silent", 1) == "repeated"
    last_heard(store, 2 * WEEK_MS + 1)
    assert [claim.silent for claim in store.claim_deliveries(BID).due] == [True]


def test_a_retry_is_news_of_a_callback(fired: Store) -> None:
    settle(fired, "published", 1)
    last_heard(fired, 2 * WEEK_MS)
    assert settle(fired, "retried") == "settled"
    assert settle(fired, "silent", 1) == "repeated"
    assert outbox(fired)[ENTRY] == "published 1"
    assert now_ms(fired) - at_of(fired) < WEEK_MS


def test_the_sweeper_sees_a_silent_callback_without_reading_the_outbox(fired: Store) -> None:
    for entry in outbox(fired):
        fired.settle_delivery(BID, entry, "published", 1)
    assert not next(iter(fired.walk_live())).has_due
    next_due = int(fired.client.hget(fired.keys.batch(BID), "next_due"))
    assert 0 < next_due - WEEK_MS <= now_ms(fired)
    fired.client.hset(fired.keys.batch(BID), "next_due", 1)
    assert next(iter(fired.walk_live())).has_due


def test_the_batch_knows_how_many_callbacks_were_given_up(fired: Store) -> None:
    for entry in ("complete:0", "finish:0"):
        fired.settle_delivery(BID, entry, "given_up", 1)
    assert fired.client.hget(fired.keys.batch(BID), "given_up") == b"2"
    fired.settle_delivery(BID, "complete:0", "delivered", 1)
    assert fired.client.hget(fired.keys.batch(BID), "given_up") == b"1"


def test_the_loss_of_a_message_that_was_overtaken_costs_the_present_one_nothing(fired: Store) -> None:
    """A worker is found lost a while after its death, and another one may have its delivery by then."""
    fired.client.hset(fired.keys.batch(BID), f"notifies:{ENTRY}", 1)
    settle(fired, "published", 1, number=1)
    set_entry(fired, last_at=1)
    (claim,) = (c for c in fired.claim_deliveries(BID).due if c.entry == ENTRY)
    settle(fired, "published", 2, number=claim.number)
    assert settle(fired, "lost", 0, number=1) == "repeated"
    assert outbox(fired)[ENTRY] == "published 2"
