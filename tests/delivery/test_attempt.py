from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
from celery import Celery

from celery_batches_notify import Batch, NotificationFailed
from celery_batches_notify.delivery.attempt import DELAYS_SECONDS, Attempts
from celery_batches_notify.model import Notification

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
        if isinstance(answer, Exception):
            raise answer
        return f"{self.word}: {answer}"


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
    return app._batches_engine.parts.attempts


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


def next_attempt(app: Celery, batch: Batch) -> None:
    """Publish what is due, as the sweeper does when the time has come."""
    state, n = callback(batch)
    assert state == "due"
    app._batches_engine.engine.store.settle_delivery(batch.bid, "complete:0", "published", n + 1)


def due_in(app: Celery, batch: Batch) -> float:
    store = app._batches_engine.engine.store
    snapshot = store.read_snapshot(batch.bid)
    return int(snapshot.outbox[b"complete:0"].split()[2]) / 1000 - snapshot.now.timestamp()


def test_failures_are_tried_again_for_27_hours_and_then_given_up(app: Celery, batch: Batch) -> None:
    waited = []
    for n in range(1, len(DELAYS_SECONDS) + 1):
        ANSWERS.append(NotificationFailed("500", status_code=500))
        assert "failed, next attempt in" in attempts(app).run(batch.bid, "complete:0")
        assert callback(batch) == ("due", n)
        waited.append(due_in(app, batch))
        assert DELAYS_SECONDS[n - 1] - 1 <= waited[-1] <= DELAYS_SECONDS[n - 1] * 1.1 + 1
        next_attempt(app, batch)
    assert sum(waited) >= 27 * 3600
    ANSWERS.append(NotificationFailed("500"))
    assert attempts(app).run(batch.bid, "complete:0") == "given up: 500"
    assert callback(batch) == ("given_up", len(DELAYS_SECONDS) + 1)


def test_the_receivers_wish_to_wait_is_kept(app: Celery, batch: Batch) -> None:
    ANSWERS.append(NotificationFailed("429", retry_after=3000))
    attempts(app).run(batch.bid, "complete:0")
    assert 2990 < due_in(app, batch) <= 3000


def test_a_permanent_failure_is_given_up_at_once(app: Celery, batch: Batch) -> None:
    ANSWERS.append(NotificationFailed("410 gone", permanent=True))
    assert attempts(app).run(batch.bid, "complete:0") == "given up: 410 gone"
    assert callback(batch) == ("given_up", 1)


def test_a_notifier_with_a_bug_is_tried_again_and_harms_nothing(app: Celery, batch: Batch) -> None:
    ANSWERS.append(ZeroDivisionError("oops"))
    assert "ZeroDivisionError: oops" in attempts(app).run(batch.bid, "complete:0")
    assert callback(batch) == ("due", 1)


def test_a_batch_that_is_gone_is_told_nobody(app: Celery, batch: Batch) -> None:
    batch.delete()
    assert attempts(app).run(batch.bid, "complete:0") == "the batch is gone"
    assert SENT == []
