from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import pytest
from celery import Celery

from celery_batches_notify import Batch, InvalidCallback, NoSuchBatch, NotificationFailed
from celery_batches_notify.delivery.attempt import Attempts
from celery_batches_notify.delivery.backoff import DELAYS_SECONDS
from celery_batches_notify.model import DeliveryNote, Notification
from celery_batches_notify.notifiers.base import Reply
from tests.support.smtp_server import serving_smtp

SENT: list[Notification] = []
ANSWERS: list[object] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """Answers as the test says: a notifier whose receiver is the test itself."""

    name: ClassVar[str] = "scripted"
    secrets: ClassVar[frozenset[str]] = frozenset({"key"})
    credentials: ClassVar[frozenset[str]] = frozenset()
    word: str = "configured"
    key: str | None = None

    def send(self, notification: Notification) -> str:
        SENT.append(notification)
        answer = ANSWERS.pop(0) if ANSWERS else "ok"
        if callable(answer):
            answer = answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Reply) else f"{self.word}: {answer}"


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    SENT.clear()
    ANSWERS.clear()
    return make_app(
        batches_notifiers={"scripted": f"{__name__}.Scripted"}, batches_web_url="https://ops.example.com/b/"
    )


@pytest.fixture
def batch(app: Celery) -> Batch:
    batch = Batch("rows", app=app).on("complete", "scripted", word="own")
    batch.seal()
    return batch


def attempts(app: Celery) -> Attempts:
    return app._batches_extension.engine.attempts


def callback(batch: Batch) -> tuple[str, int]:
    (status,) = batch.status().callbacks
    return status.state, status.attempts


def test_a_notification_carries_the_batch_and_a_fixed_id(app: Celery, batch: Batch) -> None:
    assert attempts(app).run(batch.bid, "complete:0") == "own: ok"
    (sent,) = SENT
    assert (sent.id, sent.event, sent.attempt) == (f"cb_{batch.bid}_complete_0", "complete", 1)
    assert sent.url == f"https://ops.example.com/b/{batch.bid}"
    assert sent.status.state == "success"
    assert callback(batch) == ("delivered", 1)


def test_a_second_copy_of_the_message_sends_nothing(app: Celery, batch: Batch) -> None:
    attempts(app).run(batch.bid, "complete:0")
    assert attempts(app).run(batch.bid, "complete:0") == "already delivered"
    assert len(SENT) == 1


def open_addresses(app: Celery) -> None:
    """Reopen all addresses."""
    client = app._batches_extension.engine.store.client
    for key in client.scan_iter("batches:address:*"):
        client.delete(key)


def next_attempt(app: Celery, batch: Batch) -> None:
    """Publish what is due, as the sweeper does once its time has come and the address's pause is over."""
    open_addresses(app)
    state, n = callback(batch)
    assert state == "due"
    app._batches_extension.engine.store.settle_delivery(batch.bid, "complete:0", "published", n + 1)


def due_in(app: Celery, batch: Batch) -> float:
    store = app._batches_extension.engine.store
    snapshot = store.read_snapshot(batch.bid)
    return int(snapshot.outbox[b"complete:0"].split()[2]) / 1000 - snapshot.now.timestamp()


def test_failures_are_tried_again_for_27_hours_and_then_given_up(app: Celery, batch: Batch) -> None:
    waited = []
    for n in range(1, len(DELAYS_SECONDS) + 1):
        ANSWERS.append(NotificationFailed("500", status_code=500))
        began = time.monotonic()
        assert "failed, next attempt in" in attempts(app).run(batch.bid, "complete:0")
        assert callback(batch) == ("due", n)
        waited.append(due_in(app, batch))
        passed = time.monotonic() - began + 0.1
        assert DELAYS_SECONDS[n - 1] - passed <= waited[-1] <= DELAYS_SECONDS[n - 1] * 1.1 + 1
        next_attempt(app, batch)
    assert sum(waited) >= 27 * 3600
    ANSWERS.append(NotificationFailed("500"))
    assert attempts(app).run(batch.bid, "complete:0") == "given up: 500"
    assert callback(batch) == ("given_up", len(DELAYS_SECONDS) + 1)


def test_the_receivers_wish_to_wait_is_kept(app: Celery, batch: Batch) -> None:
    ANSWERS.append(NotificationFailed("500", status_code=500, retry_after=3000))
    attempts(app).run(batch.bid, "complete:0")
    assert callback(batch) == ("due", 1)
    assert 2990 < due_in(app, batch) <= 3000


def test_a_wish_to_wait_may_be_a_timedelta_and_is_never_absurd() -> None:
    def read(given: float | timedelta) -> float | None:
        return NotificationFailed("busy", retry_after=given).retry_after

    assert (read(timedelta(minutes=5)), read(30), read(-3)) == (300, 30, 0)
    assert read(float("inf")) == read(1e300) == 365 * 24 * 3600


@pytest.mark.parametrize("wish", [float("nan"), "30", True])
def test_a_wish_to_wait_that_is_no_number_costs_an_attempt_and_not_the_delivery(
    app: Celery, batch: Batch, wish: object
) -> None:
    ANSWERS.append(lambda: NotificationFailed("busy", status_code=429, retry_after=wish))  # type: ignore[arg-type]

    assert "retry_after must be a number" in attempts(app).run(batch.bid, "complete:0")
    assert callback(batch) == ("due", 1)


def test_a_permanent_failure_is_given_up_at_once(app: Celery, batch: Batch) -> None:
    ANSWERS.append(NotificationFailed("410 gone", permanent=True))
    assert attempts(app).run(batch.bid, "complete:0") == "given up: 410 gone"
    assert callback(batch) == ("given_up", 1)


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
def test_a_notifier_with_a_bug_is_tried_again_and_harms_nothing(
    app: Celery, batch: Batch, error: type[BaseException]
) -> None:
    ANSWERS.append(error("oops"))
    assert f"{error.__name__} in the notifier: oops" in attempts(app).run(batch.bid, "complete:0")
    assert callback(batch) == ("due", 1)


def test_no_notification_is_sent_for_a_batch_that_is_gone(app: Celery, batch: Batch) -> None:
    batch.delete()
    assert attempts(app).run(batch.bid, "complete:0") == "the batch is gone"
    assert SENT == []


# -- some of several receivers ----------------------------------------------------------------------


def owed(app: Celery, batch: Batch) -> bytes | None:
    held: bytes | None = app._batches_extension.engine.store.client.hget(
        f"batches:{{{batch.bid}}}", "owed:complete:0"
    )
    return held


def test_later_attempts_go_only_to_recipients_that_did_not_get_it(app: Celery, batch: Batch) -> None:
    ANSWERS.append(NotificationFailed("b and c later", status_code=450, owed=["b", "c"]))
    ANSWERS.append(NotificationFailed("no connection"))
    ANSWERS.append(NotificationFailed("c later", owed=["c"]))
    for _ in range(3):
        attempts(app).run(batch.bid, "complete:0")
        next_attempt(app, batch)
    attempts(app).run(batch.bid, "complete:0")
    assert [sent.owed for sent in SENT] == [(), ("b", "c"), ("b", "c"), ("c",)]
    assert [sent.attempt for sent in SENT] == [1, 2, 3, 4]
    assert callback(batch) == ("delivered", 4)
    assert owed(app, batch) is None
    assert [(line.outcome, line.detail) for line in batch.deliveries()] == [
        ("failed", "b and c later"),
        ("failed", "no connection"),
        ("failed", "c later"),
        ("delivered", "own: ok"),
    ]


def test_redeliver_sends_only_to_recipients_that_did_not_get_it(app: Celery, batch: Batch) -> None:
    ANSWERS.append(NotificationFailed("b for good", permanent=True, owed=["b"]))
    attempts(app).run(batch.bid, "complete:0")
    assert callback(batch)[0] == "given_up"
    batch.redeliver("complete")
    attempts(app).run(batch.bid, "complete:0")
    batch.redeliver("complete", all=True)
    attempts(app).run(batch.bid, "complete:0")
    assert [sent.owed for sent in SENT] == [(), ("b",), ()]


def test_a_mail_that_some_recipients_refuse_for_now_reaches_each_of_them_once(
    make_app: Callable[..., Celery],
) -> None:
    busy = {"b@x.test": ["450 greylisted", "250 OK"], "c@x.test": ["452 full", "452 full", "250 OK"]}
    with serving_smtp(answers={**busy, "d@x.test": ["550 no such user"]}) as server:
        via = {"address": "127.0.0.1", "port": server.port}
        to = [f"{name}@x.test" for name in "abcd"]
        mail = {"to": to, "from": "celery@x.test", "via": "smtp", "via_options": via}
        app = make_app(batches_notifications={"email": mail})
        batch = Batch(app=app).on("complete", "email")
        batch.seal()
        for _ in range(2):
            attempts(app).run(batch.bid, "complete:0")
            assert b"x.test" not in (owed(app, batch) or b"x.test")
            next_attempt(app, batch)
        attempts(app).run(batch.bid, "complete:0")
    assert callback(batch) == ("delivered", 3)
    assert [got.recipients for got in server.received] == [["a@x.test"], ["b@x.test"], ["c@x.test"]]
    first = batch.deliveries()[0].detail
    assert "refused for now: b@x.test (450 greylisted), c@x.test (452 full)" in first
    assert "refused for good: d@x.test (550 no such user); accepted: a@x.test" in first


# -- one host for many ----------------------------------------------------------------------------


def many(app: Celery, n: int) -> list[Batch]:
    batches = []
    for _ in range(n):
        batch = Batch(app=app).on("complete", "scripted")
        batch.seal()
        batches.append(batch)
    return batches


def test_an_address_that_failed_is_left_alone_by_all_and_no_attempt_is_lost(app: Celery) -> None:
    first, *others = many(app, 5)
    ANSWERS.append(NotificationFailed("503", status_code=503))
    began = time.monotonic()
    attempts(app).run(first.bid, "complete:0")
    for batch in others:
        assert attempts(app).run(batch.bid, "complete:0").startswith("not tried")
        assert callback(batch) == ("due", 0)
    assert len(SENT) == 1
    finds_out, *follow = (due_in(app, batch) + time.monotonic() - began + 0.1 for batch in others)
    assert 5 < finds_out < 30, "one asks at the end of the pause"
    assert all(due > 5 + 30 for due in follow), "the address wakes the others, not their time"


def test_after_its_pause_one_attempt_finds_out_for_all(app: Celery) -> None:
    store = app._batches_extension.engine.store
    batches = many(app, 4)
    ANSWERS.append(NotificationFailed("503"))
    attempts(app).run(batches[0].bid, "complete:0")
    pause_is_over(app)
    attempts(app).run(batches[1].bid, "complete:0")
    assert callback(batches[1]) == ("delivered", 1)
    assert not list(store.client.scan_iter("batches:address:*[^g]"))
    store.close_address("h", busy=False)
    store.client.hset(store.keys.address("h")[0], "until_at", 1)
    assert store.ask_address("h", "send", seconds=30).seconds == 0
    assert 10 < store.ask_address("h", "send", seconds=30).seconds <= 30


def test_an_address_is_left_alone_longer_each_time_up_to_an_hour(app: Celery) -> None:
    store = app._batches_extension.engine.store
    pauses = []
    for _ in range(14):
        pauses.append(round(store.close_address("h", busy=False).seconds))
        store.client.hset(store.keys.address("h")[0], "until_at", 1)
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == 3600
    assert round(store.close_address("h", busy=False, seconds=5000).seconds) == 5000
    assert round(store.ask_address("h", "send", seconds=30).seconds) == 5000


def test_many_that_fail_at_once_close_their_address_once(app: Celery) -> None:
    store = app._batches_extension.engine.store
    closed = [store.close_address("h", busy=False) for _ in range(10)]
    assert [each.first for each in closed] == [True] + [False] * 9
    assert all(each.seconds <= 5 for each in closed)
    assert store.close_address("h", busy=True, seconds=60).seconds == 60, "but its wish is kept"
    assert 50 < store.ask_address("h", "send", seconds=30).seconds <= 60


def test_a_clock_that_steps_back_leaves_no_address_alone_for_longer_than_its_pause(app: Celery) -> None:
    store = app._batches_extension.engine.store
    store.close_address("h", busy=False)
    name = store.keys.address("h")[0]
    store.client.hincrby(name, "until_at", 7200 * 1000)
    assert 0 < store.ask_address("h", "send", seconds=30).seconds <= 5
    assert 0 < store.ask_address("h", "publish", seconds=30).seconds <= 5


def pause_is_over(app: Celery) -> None:
    client = app._batches_extension.engine.store.client
    for key in client.scan_iter("batches:address:*"):
        if client.type(key) == b"hash":
            client.hset(key, "until_at", 1)


def test_a_refusal_does_not_close_the_address_for_others(app: Celery) -> None:
    one, two = many(app, 2)
    ANSWERS.append(NotificationFailed("404", permanent=True))
    attempts(app).run(one.bid, "complete:0")
    assert attempts(app).run(two.bid, "complete:0") == "configured: ok"


@pytest.mark.parametrize("failed", [{"alone": True}, {"owed": ["b"]}], ids=["alone", "owed"])
def test_what_is_about_one_notification_keeps_no_other_waiting(app: Celery, failed: dict) -> None:
    one, two = many(app, 2)
    ANSWERS.append(NotificationFailed("452 full", **failed))
    attempts(app).run(one.bid, "complete:0")
    assert callback(one) == ("due", 1)
    assert attempts(app).run(two.bid, "complete:0") == "configured: ok"


# -- the log --------------------------------------------------------------------------------------


def test_the_log_shows_every_attempt(app: Celery, batch: Batch) -> None:
    ANSWERS.append(NotificationFailed("x" * 1000, status_code=503))
    attempts(app).run(batch.bid, "complete:0")
    next_attempt(app, batch)
    attempts(app).run(batch.bid, "complete:0")
    lines = [(a.event, a.n, a.channel, a.attempt, a.outcome, a.status_code) for a in batch.deliveries()]
    assert lines == [
        ("complete", 0, "scripted", 1, "failed", 503),
        ("complete", 0, "scripted", 2, "delivered", None),
    ]
    assert [a.detail for a in batch.deliveries()] == ["x" * 500, "own: ok"]
    assert all(a.at is not None for a in batch.deliveries())


def test_the_log_holds_the_status_code_of_what_was_delivered(app: Celery, batch: Batch) -> None:
    ANSWERS.append(Reply("201 Created", 201))
    attempts(app).run(batch.bid, "complete:0")
    (line,) = batch.deliveries()
    assert (line.outcome, line.status_code, line.detail) == ("delivered", 201, "201 Created")


def test_the_log_keeps_the_last_hundred(app: Celery, batch: Batch) -> None:
    store = app._batches_extension.engine.store
    note = DeliveryNote(channel="c")
    for n in range(1, 131):
        store.settle_delivery(batch.bid, "complete:0", "due", n, note=note)
        store.settle_delivery(batch.bid, "complete:0", "due", n, note=note)
        store.settle_delivery(batch.bid, "complete:0", "published", n + 1)
    assert len(batch.deliveries()) == 100


# -- once more ------------------------------------------------------------------------------------


def test_redeliver_sends_what_was_given_up_once_more_under_the_same_id(app: Celery, batch: Batch) -> None:
    ANSWERS.append(NotificationFailed("410", permanent=True))
    attempts(app).run(batch.bid, "complete:0")
    assert callback(batch) == ("given_up", 1)
    assert batch.redeliver("complete") == 1
    assert callback(batch) == ("published", 1)
    assert batch.redeliver("complete") == 0
    assert attempts(app).run(batch.bid, "complete:0") == "own: ok"
    assert len({sent.id for sent in SENT}) == 1


def test_redeliver_takes_one_by_its_number_and_all_on_request(app: Celery) -> None:
    batch = Batch(app=app)
    for _ in range(3):
        batch.on("complete", "scripted")
    batch.seal()
    ANSWERS.extend([NotificationFailed("410", permanent=True), "ok", "ok"])
    for n in range(3):
        attempts(app).run(batch.bid, f"complete:{n}")

    def states() -> list[str]:
        return [c.state for c in batch.status().callbacks]

    assert states() == ["given_up", "delivered", "delivered"]
    assert batch.redeliver("complete", n=2) == 1
    assert states() == ["given_up", "delivered", "published"]
    assert batch.redeliver("complete") == 1
    assert states() == ["published", "delivered", "published"]
    assert batch.redeliver("complete", all=True) == 1
    for n in (3, -1, True, "0"):
        with pytest.raises(InvalidCallback, match=f"has no callback complete:{n}: .* from 0 to 2"):
            batch.redeliver("complete", n=n)


def test_redeliver_takes_what_was_published_for_minutes_and_never_ran(app: Celery, batch: Batch) -> None:
    store = app._batches_extension.engine.store
    outbox = store.keys.part(batch.bid, "outbox")
    entry = store.client.hget(outbox, "complete:0").split()
    entry[2] = b"%d" % (int(entry[2]) - 6 * 60_000)
    store.client.hset(outbox, "complete:0", b" ".join(entry))
    assert batch.redeliver("complete") == 1
    assert "another message" in attempts(app).run(batch.bid, "complete:0", 1), "the first one turns up"
    assert attempts(app).run(batch.bid, "complete:0", 2) == "own: ok"
    assert len(SENT) == 1


def test_redeliver_brings_a_waiting_attempt_forward_and_a_delivered_one_back(
    app: Celery, batch: Batch
) -> None:
    ANSWERS.append(NotificationFailed("429", status_code=429, retry_after=3600))
    attempts(app).run(batch.bid, "complete:0")
    assert batch.redeliver("complete") == 1
    attempts(app).run(batch.bid, "complete:0")
    assert callback(batch)[0] == "delivered"
    app._batches_extension.engine.sweeper.sweep()
    assert batch.redeliver("complete") == 0
    assert batch.redeliver("complete", all=True) == 1
    assert callback(batch) == ("published", 1)


def test_redeliver_of_what_never_fired_sends_nothing(app: Celery) -> None:
    batch = Batch(app=app).on("death", "scripted")
    batch.seal()
    assert batch.redeliver("death") == 0
    with pytest.raises(InvalidCallback, match="no event"):
        batch.redeliver("done")
    with pytest.raises(NoSuchBatch):
        Batch(app=app).redeliver("death")


# -- rules ----------------------------------------------------------------------------------------


def test_a_callback_whose_rule_does_not_hold_is_skipped(app: Celery) -> None:
    batch = Batch(app=app)
    batch.on("complete", "scripted", only_if={"failures": 1}).on(
        "complete", "scripted", only_if={"failures": 0}
    )
    batch.seal()
    assert [c.state for c in batch.status().callbacks] == ["skipped", "published"]
    assert app._batches_extension.engine.store.read_snapshot(batch.bid).batch[b"open"] == b"1"
