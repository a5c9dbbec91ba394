from __future__ import annotations

import threading
from contextvars import ContextVar

from celery_batches_notify.delivery.outgoing import WAITING_AT_MOST, Outgoing
from celery_batches_notify.store.recorded import Recorded
from tests.support.servers import wait_until

NOTHING = Recorded(word="repeated")


class SlowPublisher:
    """A publisher whose broker does not answer; the real one takes 5 s per batch."""

    def __init__(self) -> None:
        self.broker_is_back = threading.Event()
        self.published: list[str] = []

    def publish(self, bid: str, recorded: Recorded) -> None:
        self.broker_is_back.wait()
        self.published.append(bid)


def test_what_waits_for_a_broker_that_is_away_does_not_grow_without_end() -> None:
    publisher = SlowPublisher()
    outgoing = Outgoing(publisher)  # type: ignore[arg-type]
    for i in range(WAITING_AT_MOST + 500):
        outgoing.submit(str(i), NOTHING)
    publisher.broker_is_back.set()
    assert outgoing.flush(10)
    assert len(publisher.published) <= WAITING_AT_MOST + 1, "the sweeper has the rest"
    assert publisher.published[0] == "0"
    outgoing.submit("later", NOTHING)
    wait_until(lambda: publisher.published[-1] == "later")
    outgoing.close()


def test_each_delivery_is_published_in_the_context_of_its_report() -> None:
    trace = ContextVar("trace", default="none")

    class Noting:
        def __init__(self) -> None:
            self.traces: list[str] = []

        def publish(self, bid: str, recorded: Recorded) -> None:
            self.traces.append(trace.get())

    publisher = Noting()
    outgoing = Outgoing(publisher)  # type: ignore[arg-type]
    for name in ("first", "second"):
        trace.set(name)
        outgoing.submit(name, NOTHING)
    assert outgoing.flush(10)
    assert publisher.traces == ["first", "second"]
    outgoing.close()
