"""Notifications from a batch to their receivers, through real workers, with every failure in between."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server
from tests.support.apps import open_app
from tests.support.http_server import Handler, Server, answer, hang, serving
from tests.support.servers import running_worker, wait_until

Start = Callable[..., Batch]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded_server() as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Redis]:
    client = Redis.from_url(url)
    yield client
    immortal = [key for key in client.scan_iter("batches*") if client.ttl(key) == -1]
    client.close()
    assert not immortal


@pytest.fixture(scope="module")
def app(url: str) -> Iterator[Celery]:
    with open_app(url) as app:
        yield app


@pytest.fixture(scope="module")
def worker(url: str) -> Iterator[subprocess.Popen[bytes]]:
    patch = pytest.MonkeyPatch()
    patch.setenv("NO_PROXY", "127.0.0.1")
    with patch.context(), running_worker(url, "prefork", NO_PROXY="127.0.0.1") as worker:
        yield worker


@pytest.fixture
def start(app: Celery, worker: object) -> Iterator[Start]:
    """Make batches that POST somewhere; delete them at the end of the test if they have not ended."""
    made = []

    def make(*urls: str, event: str = "complete", queue: str | None = None, **options: Any) -> Batch:
        batch = Batch("rows", callback_queue=queue, app=app)
        for url in urls:
            batch.on(event, "webhook", url=url, **options)
        batch.seal()
        made.append(batch)
        return batch

    yield make
    for batch in made:
        batch.delete()


def states(batch: Batch) -> list[str]:
    return [callback.state for callback in batch.status().callbacks]


def ids(server: Server) -> Counter[str]:
    return Counter(request.headers["webhook-id"] for request in server.received)


def attempts(batch: Batch) -> list[tuple[int, str, int | None]]:
    return [(line.attempt, line.outcome, line.status_code) for line in batch.deliveries()]


def test_a_dead_host_delays_no_other_and_gets_a_few_requests_only(start: Start) -> None:
    """Fifty notifications wait for an address that never answers; 200 others do not wait for them."""
    with serving(hang) as dead, serving() as healthy:
        waiting = [start(f"{dead.url}/hook", timeout=1) for _ in range(50)]
        for n in range(200):
            start(f"{healthy.url}/{n}")
        wait_until(lambda: len(healthy.received) == 200, seconds=60, what="the healthy ones")
        wait_until(
            lambda: sum(states(batch) == ["published"] for batch in waiting) <= 1, what="the fifty to wait"
        )
        callbacks = [batch.status().callbacks[0] for batch in waiting]
        asked = dead.connections
    assert set(ids(healthy).values()) == {1}
    assert 1 <= asked <= 6
    assert {c.state for c in callbacks} <= {"due", "published"}
    assert sum(c.attempts for c in callbacks) <= asked + 2, "what waits counts no attempt"
    assert {c.waits_for for c in callbacks if c.state == "due"} == {dead.url}
    assert {line.outcome for batch in waiting for line in batch.deliveries()} == {"failed", "waiting"}


def test_a_receiver_that_allows_one_a_second_gets_thirty_in_thirty_seconds(start: Start) -> None:
    """Its `Retry-After` is the pace, not the sweeper's interval, and costs no attempt."""
    lock, last, taken = threading.Lock(), [0.0], []

    def one_a_second(handler: Handler) -> None:
        with lock:
            now = time.monotonic()
            allowed = now - last[0] >= 1
            if allowed:
                last[0] = now
                taken.append(now)
        answer(200 if allowed else 429, **({} if allowed else {"Retry_After": 1}))(handler)

    with serving(one_a_second) as server:
        batches = [start(f"{server.url}/hook") for _ in range(30)]
        wait_until(lambda: len(taken) == 30, seconds=180, what="all thirty")
        wait_until(lambda: all(states(batch) == ["delivered"] for batch in batches), what="the last note")
    assert all(c.attempts == 1 for batch in batches for c in batch.status().callbacks)
    took = taken[-1] - taken[0]
    print(f"30 notifications at one a second took {took:.1f} s, {len(server.received)} requests")
    assert took < 100, "a sweep for each would take 150 s and more"


def test_after_an_outage_all_go_once_one_has_arrived(start: Start) -> None:
    """They do not wait for their own time, which is minutes away."""
    away = [True]

    def come_back(handler: Handler) -> None:
        answer(500 if away[0] else 200)(handler)

    with serving(come_back) as server:
        batches = [start(f"{server.url}/hook") for _ in range(40)]
        wait_until(lambda: sum(states(batch) == ["due"] for batch in batches) >= 39, what="the outage")
        away[0] = False
        wait_until(lambda: all(states(b) == ["delivered"] for b in batches), seconds=60, what="the backlog")
        first, *_, last = sorted(batch.deliveries()[-1].at for batch in batches)
    assert (last - first).total_seconds() < 30, "each for itself they would wait for 30 s and more"


def test_time_limits_that_are_for_the_users_tasks_end_no_notification(
    start: Start, url: str, app: Celery
) -> None:
    def slowly(handler: Handler) -> None:
        handler.server.closing.wait(3)
        answer(200)(handler)

    limits = ("-Q", "limited", "--time-limit", "2", "--soft-time-limit", "1")
    with serving(slowly) as server, running_worker(url, "prefork", *limits, NO_PROXY="127.0.0.1"):
        batch = start(server.url, queue="limited")
        wait_until(lambda: states(batch) == ["delivered"], what="the slow receiver's answer")
        assert attempts(batch) == [(1, "delivered", 200)]


# -- killed ---------------------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    """Return the descendants of a process, the nearest first."""
    with suppress(FileNotFoundError, ProcessLookupError):
        found = list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        return found + [child for own in found for child in children_of(own)]
    return []


def kill_pool(worker: subprocess.Popen[bytes]) -> None:
    """Kill the processes of a worker's pool: the children of its main process, which runs in a shell."""
    for pid in {child for own in children_of(worker.pid) for child in children_of(own)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_notification_whose_sender_was_killed_comes_again_under_the_same_id(
    start: Start, worker: subprocess.Popen[bytes]
) -> None:
    """Twenty times the receiver gets it, and the process dies before it could note that."""
    lock, seen = threading.Lock(), set()

    def kill_the_first_time(handler: Handler) -> None:
        with lock:
            if handler.headers["webhook-id"] not in seen:
                seen.add(handler.headers["webhook-id"])
                kill_pool(worker)
        answer(200)(handler)

    with serving(kill_the_first_time) as server:
        batches = [start(f"{server.url}/{n}") for n in range(20)]
        wait_until(
            lambda: all(states(batch) == ["delivered"] for batch in batches), seconds=90, what="delivery"
        )
        received = ids(server)
    assert received.keys() == {f"cb_{batch.bid}_complete_0" for batch in batches}
    assert min(received.values()) >= 2
    assert worker.poll() is None


# -- answers --------------------------------------------------------------------------------------


def test_a_receiver_that_is_busy_gets_it_at_the_second_attempt(start: Start) -> None:
    def busy_first(handler: Handler) -> None:
        answer(503 if len(handler.server.received) == 1 else 200)(handler)

    with serving(busy_first) as server:
        batch = start(server.url)
        wait_until(lambda: states(batch) == ["delivered"], what="the second attempt")
        assert len(server.received) == 2
    assert set(ids(server).values()) == {2}
    assert attempts(batch) == [(1, "failed", 503), (2, "delivered", 200)]
    first, second = (line.at for line in batch.deliveries())
    assert (second - first).total_seconds() >= 5


def test_a_receiver_that_is_gone_is_given_up_and_everybody_can_see_it(start: Start) -> None:
    with serving(answer(410)) as server:
        batch = start(f"{server.url}/hook")
        wait_until(lambda: states(batch) == ["given_up"], what="giving up")
        assert len(server.received) == 1
    (callback,) = batch.status().as_dict()["callbacks"]
    assert callback == {"event": "complete", "n": 0, "target": "webhook", "state": "given_up", "attempts": 1}
    (line,) = batch.deliveries()
    assert (line.outcome, line.status_code) == ("given_up", 410)
    assert line.detail == f"{server.url}: answered 410 Gone"


def test_what_was_given_up_is_sent_again_on_request_under_the_same_id(start: Start) -> None:
    with serving(answer(404)) as server:
        batch = start(server.url)
        wait_until(lambda: states(batch) == ["given_up"], what="giving up")
        server.behaviour = answer(200)
        assert batch.redeliver("complete") == 1
        wait_until(lambda: states(batch) == ["delivered"], what="the redelivery")
        assert batch.redeliver("complete", all=True) == 1, "what was delivered can be sent again, too"
        wait_until(lambda: len(server.received) == 3, what="the second redelivery")
    assert set(ids(server).values()) == {3}


def test_a_rule_that_does_not_hold_skips_the_notification(start: Start, app: Celery) -> None:
    with serving() as server:
        batch = Batch(app=app)
        batch.on("finish", "webhook", url=f"{server.url}/many", only_if={"failures": 2})
        batch.on("finish", "webhook", url=f"{server.url}/some", only_if={"failures": 1, "total": 2})
        batch.add(app.signature("proj.ok"), app.signature("proj.fail"))
        wait_until(lambda: states(batch) == ["skipped", "delivered"], what="delivery")
        assert [request.path for request in server.received] == ["/some"]


def test_events_arrive_in_the_order_in_which_they_became_true(worker: object, app: Celery, url: str) -> None:
    with serving() as server, running_worker(url, "solo", "-Q", "ordered", NO_PROXY="127.0.0.1"):
        batches = [Batch(app=app, callback_queue="ordered") for _ in range(2)]
        for batch, task in zip(batches, ("ok", "fail"), strict=True):
            for event in ("success", "finish", "complete", "death"):
                batch.on(event, "webhook", url=server.url)
            batch.add(app.signature(f"proj.{task}"))  # one, so that its events become true at once
        wait_until(lambda: len(server.received) == 6, what="delivery")
    told: dict[str, list[str]] = {batch.bid: [] for batch in batches}
    for request in server.received:
        told[request.json["bid"]].append(request.json["event"])
    assert list(told.values()) == [["complete", "finish", "success"], ["death", "complete", "finish"]]


def test_a_deleted_batch_sends_no_notification(start: Start, app: Celery, client: Redis, url: str) -> None:
    with serving() as server:
        deleted = start(f"{server.url}/deleted", queue="later")
        assert states(deleted) == ["published"]
        deleted.delete()
        kept = start(f"{server.url}/kept", queue="later")
        assert client.llen("later") == 2
        app.control.add_consumer("later", reply=True, limit=1, timeout=10)
        wait_until(lambda: states(kept) == ["delivered"], what="delivery")
        wait_until(lambda: not client.llen("later"), what="the end of the queue")
        wait_until(lambda: not client.hlen("unacked"), what="the last acknowledgement")
        assert [request.path for request in server.received] == ["/kept"]
    assert client.keys(f"*{deleted.bid}*") == []
