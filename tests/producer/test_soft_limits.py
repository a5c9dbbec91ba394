"""A task's soft time limit that strikes while calls are made or sent is the task's own, as ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu import Producer

from celery_batches_notify import Batch
from tests.support.apps import open_app


@pytest.fixture
def app(redis: object, server_url: str) -> Iterator[Celery]:
    with open_app(server_url, task_default_queue=f"q{uuid4().hex}") as app:
        yield app


class Striking:
    """An argument that is being written when the limit strikes, once."""

    strikes = True

    def __repr__(self) -> str:
        return "striking"

    def __json__(self) -> str:
        if self.strikes:
            self.strikes = False
            raise SoftTimeLimitExceeded
        return "written"


@pytest.fixture
def strike(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that lets the limit strike when so many messages were published before, once."""

    def strike(after: int) -> None:
        publish, left = Producer.publish, iter([False] * after + [True])

        def publishing(producer: Producer, *args: object, **options: object) -> object:
            if next(left, False):
                raise SoftTimeLimitExceeded
            return publish(producer, *args, **options)

        monkeypatch.setattr(Producer, "publish", publishing)

    return strike


def sent(app: Celery) -> list[object]:
    """Return the first argument of each message at the broker."""
    with app.connection_for_read() as connection:
        channel, queue = connection.default_channel, app.conf.task_default_queue
        messages = iter(lambda: channel.basic_get(queue, no_ack=True), None)
        return [message.payload[0][0] for message in messages]


def test_a_soft_limit_that_strikes_while_a_call_is_made_drops_the_block(app: Celery) -> None:
    ok = app.tasks["proj.ok"]
    with pytest.raises(SoftTimeLimitExceeded), Batch(app=app):
        for argument in (1, 2, 3, Striking(), 5):
            ok.delay(argument)
    assert sent(app) == []


def test_a_soft_limit_that_strikes_in_a_map_leaves_it(app: Celery) -> None:
    batch = Batch(app=app)
    with pytest.raises(SoftTimeLimitExceeded):
        batch.map(app.tasks["proj.ok"], [1, 2, 3, Striking(), 5])
    assert sent(app) == []


@pytest.mark.parametrize("calls", [1, 4])
def test_a_soft_limit_that_strikes_as_calls_leave_is_raised_once(
    app: Celery, strike: Callable[[int], None], calls: int
) -> None:
    strike(calls - 1)
    batch = Batch(app=app)
    with pytest.raises(SoftTimeLimitExceeded), batch:
        for argument in range(calls):
            app.tasks["proj.ok"].apply_async((argument,), countdown=1)
    batch.resume()
    assert sent(app) == list(range(calls))
    assert (batch.status().total, batch.status().state) == (calls, "running")
