"""Forty receivers of every misbehaviour beside forty healthy ones on their hosts.

At full scale workers are killed, and kombu's Redis transport may lose the message that one was just taking.
That delivery waits for `redeliver` or its last attempt, so one of the healthy ones may be missing there.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server, find_free_port
from tests.chaos.scene import is_full
from tests.support.apps import open_app
from tests.support.http_server import (
    Handler,
    answer,
    drip_headers,
    drip_status,
    garbage,
    hang,
    reset,
    serving,
)
from tests.support.servers import kill, running_worker, wait_until
from tests.support.smtp_server import serving_smtp

ROUNDS = 20 if is_full() else 1  # a worker is killed between two
GIVE_UP_AFTER = 10
BAD_PATHS = {
    "/hang": hang,
    "/status": drip_status(),
    "/headers": drip_headers(),
    "/reset": reset,
    "/garbage": garbage,
    "/busy": answer(429, Retry_After=2),
    "/unsaid": answer(429),
    "/later": answer(503, Retry_After=3600),
    **{
        f"/{code}": answer(code) for code in (302, 400, 401, 403, 404, 408, 409, 410, 425, 500, 502, 503, 504)
    },
}
BAD_BOXES = {
    f"{name}@x.test": [said] * 10_000
    for name, said in (
        ("greylisted", "450 greylisted"),
        ("full", "452 full"),
        ("busy", "451 local error"),
        ("ends", "421 too many"),
        ("unknown", "550 no such user"),
        ("moved", "551 not local"),
    )
}
REFUSED_PATHS, BAD_MAIL_PORTS = 10, 4


class Addresses:
    """Who is told, and how: the healthy ones share their hosts with the others."""

    def __init__(self, http: str, mx: int) -> None:
        self.nobody = f"http://127.0.0.1:{find_free_port()}"
        self.healthy: list[tuple[str, dict[str, Any]]] = [
            *(("webhook", {"url": f"{http}/ok/{n}"}) for n in range(30)),
            *(("email", self._mail(f"ok{n}@x.test", mx)) for n in range(10)),
        ]
        self.bad: list[tuple[str, dict[str, Any]]] = [
            *(("webhook", {"url": f"{http}{path}", "timeout": 1}) for path in BAD_PATHS),
            *(("webhook", {"url": f"{self.nobody}/{n}"}) for n in range(REFUSED_PATHS)),
            *(("email", self._mail(box, mx)) for box in BAD_BOXES),
            *(("email", self._mail("ok@x.test", find_free_port())) for _ in range(BAD_MAIL_PORTS)),
        ]
        assert len(self.healthy) >= 40 <= len(self.bad)

    @staticmethod
    def _mail(to: str, port: int) -> dict[str, Any]:
        via = {"address": "127.0.0.1", "port": port, "total_timeout": 2}
        return {"to": to, "from": "celery@x.test", "via": "smtp", "via_options": via}


def behave(handler: Handler) -> None:
    BAD_PATHS.get(handler.path, answer(200))(handler)


@pytest.fixture
def store() -> Iterator[str]:
    with embedded_server() as url:
        yield url


def tell(app: Celery, channel: str, options: dict[str, Any]) -> Batch:
    batch = Batch(app=app).on("complete", channel, give_up_after=GIVE_UP_AFTER, **options)
    batch.seal()
    return batch


def states(batches: list[Batch]) -> Counter[str]:
    return Counter(callback.state for batch in batches for callback in batch.status().callbacks)


def latency(batch: Batch) -> float:
    """From the event until it had arrived, by the store's clock."""
    at, fired = batch.deliveries()[-1].at, batch.status().complete_at
    assert at is not None
    assert fired is not None
    return (at - fired).total_seconds()


@pytest.mark.timeout(600)
def test_healthy_receivers_do_not_wait_for_the_others_and_every_delivery_ends(
    store: str, draw: random.Random
) -> None:
    with ExitStack() as stack:
        http, mx = stack.enter_context(serving(behave)), stack.enter_context(serving_smtp(answers=BAD_BOXES))
        app = stack.enter_context(open_app(store))
        addresses = Addresses(http.url, mx.port)
        workers = [ExitStack() for _ in range(2)]
        held = [w.enter_context(running_worker(store, "prefork", "-c", "4")) for w in workers]
        for worker in workers:
            stack.callback(worker.close)
        healthy: list[Batch] = []
        bad: list[Batch] = []
        for round_ in range(ROUNDS):
            told = [(healthy, *each) for each in addresses.healthy] + [(bad, *each) for each in addresses.bad]
            draw.shuffle(told)
            for batches, channel, options in told:
                batches.append(tell(app, channel, options))
            if round_ == ROUNDS - 1:
                break
            victim = round_ % 2
            kill(held[victim])
            workers[victim].close()
            held[victim] = workers[victim].enter_context(running_worker(store, "prefork", "-c", "4"))
        began = time.monotonic()
        wait_until(lambda: states(healthy).keys() == {"delivered"}, seconds=120, what="the healthy ones")
        wait_until(lambda: not {"due", "published"} & states(bad).keys(), seconds=240, what="the others' end")
        took = sorted(map(latency, healthy))
        p50, p95 = took[len(took) // 2], took[len(took) * 95 // 100]
        print(
            f"{len(healthy)} healthy: p50 {p50:.2f} s, p95 {p95:.2f} s, max {took[-1]:.2f} s; "
            f"{len(bad)} others: {dict(states(bad))}, done {time.monotonic() - began:.0f} s after the last"
        )
        assert all(batch.deliveries()[-1].outcome == "given_up" for batch in bad)
        assert p50 < GIVE_UP_AFTER, "the healthy ones wait for nobody"
