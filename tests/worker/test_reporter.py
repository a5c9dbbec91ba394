"""Reports while the store is away: in time, into the spool, and counted once the store is back."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from celery.app.task import Context
from redis import Redis

from celery_batches_notify import Batch, StoreUnavailable
from celery_batches_notify.engine import Engine
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages.headers import DELIVER_TASK, DeliveryRef
from celery_batches_notify.store.recorded import Recorded
from celery_batches_notify.worker import outcomes, reporter
from celery_batches_notify.worker.circuit_breaker import AWAY_SECONDS, CircuitBreaker
from celery_batches_notify.worker.receivers import _repeat_if_interrupted
from celery_batches_notify.worker.reporter import budget_within, limits_of
from celery_batches_notify.worker.spool_records import Settlement
from tests.support.away import spooled
from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.servers import PATIENT, wait_until

SUCCEEDED = Outcome(state=State.SUCCEEDED)
NOTED = Recorded(word="settled")


@pytest.fixture
def proxy(server_url: str) -> Iterator[tuple[CutProxy, str]]:
    with cut_proxy(server_url) as (proxy, url):
        yield proxy, url


@pytest.fixture
def app(make_app: Callable[..., Celery], proxy: tuple[CutProxy, str], tmp_path: Path) -> Celery:
    places = {"batches_backend_url": proxy[1], "batches_spool_dir": tmp_path}
    app = make_app(**places, batches_backend_options=PATIENT, batches_report_timeout=1)
    app.task(told, name="told", shared=False)
    return app


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture
def engine(app: Celery) -> Engine:
    return app._batches_extension.engine


def members_of(app: Celery, count: int, **callbacks: object) -> tuple[Batch, list[Membership]]:
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    results = batch.add(*(app.tasks["told"].s() for _ in range(count)))
    return batch, [Membership(bid=batch.bid, index=i, task_id=r.id) for i, r in enumerate(results)]


def test_a_store_that_comes_back_in_time_needs_no_spool(
    app: Celery, engine: Engine, proxy: tuple[CutProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, (member,) = members_of(app, 1)
    proxy[0].misbehave("refuse")
    monkeypatch.setattr(engine.reporter, "_sleep", lambda _: proxy[0].behave())
    engine.reporter.report(member, SUCCEEDED, seconds=10)
    assert batch.status().state == "success"
    assert not spooled(tmp_path)


def test_spooled_reports_and_their_callbacks_follow_once_the_store_is_back(
    app: Celery, engine: Engine, proxy: tuple[CutProxy, str], tmp_path: Path
) -> None:
    batch, members = members_of(app, 3)
    proxy[0].misbehave("refuse")
    for member in members:
        engine.reporter.report(member, SUCCEEDED, seconds=0.3)
    engine.replay.replay()
    assert spooled(tmp_path) == 3
    proxy[0].behave()
    engine.replay.replay()
    assert batch.status().state == "success"
    assert not spooled(tmp_path)
    wait_until(lambda: batch.status().callbacks[0].state == "published")


def test_a_report_with_a_hundred_thousand_successors_is_spooled_and_replayed(
    app: Celery, engine: Engine, proxy: tuple[CutProxy, str], tmp_path: Path
) -> None:
    batch, (member,) = members_of(app, 1)
    late = (
        Membership(bid=batch.bid, index=None, task_id=str(uuid4()), of=member.origin) for _ in range(100_000)
    )
    proxy[0].misbehave("refuse")
    engine.reporter.report(member, Outcome(state=State.SUCCEEDED, successors=tuple(late)), seconds=0)
    assert spooled(tmp_path) == 1
    proxy[0].behave()
    engine.replay.replay()
    assert not spooled(tmp_path)
    assert (batch.status().total, batch.status().succeeded) == (100_001, 1)


def test_only_the_first_report_waits(app: Celery, engine: Engine, proxy: tuple[CutProxy, str]) -> None:
    _, members = members_of(app, 200)
    proxy[0].misbehave("blackhole")
    before = proxy[0].accepted
    for member in members:
        engine.reporter.report(member, SUCCEEDED, seconds=1)
    assert 0 < proxy[0].accepted - before < 10


def test_a_report_into_a_blackhole_is_spooled(
    app: Celery, engine: Engine, proxy: tuple[CutProxy, str], tmp_path: Path
) -> None:
    _, (member,) = members_of(app, 1)
    proxy[0].misbehave("blackhole")
    engine.reporter.report(member, SUCCEEDED, seconds=1)
    assert spooled(tmp_path) == 1


def test_a_report_gives_up_in_time_though_the_stores_own_timeouts_are_long(engine: Engine) -> None:
    assert PATIENT["socket_timeout"] > engine.reporter.timeout_seconds
    assert engine.reporter._prompt.longest_call_seconds < engine.reporter.timeout_seconds


@pytest.mark.parametrize("way", ["options", "query"])
def test_a_store_that_hangs_holds_a_report_no_longer_whatever_its_timeouts(
    make_app: Callable[..., Celery], proxy: tuple[CutProxy, str], tmp_path: Path, way: str
) -> None:
    """Without limits of its own, the report would take hours."""
    hours = {"socket_timeout": 9999, "socket_connect_timeout": 9999}
    app = make_app(
        batches_backend_url=f"{proxy[1]}?{urlencode(hours)}" if way == "query" else proxy[1],
        batches_backend_options=hours if way == "options" else {},
        batches_spool_dir=tmp_path,
        batches_report_timeout=4,
    )
    app.task(told, name="told", shared=False)
    _, (member,) = members_of(app, 1)
    proxy[0].misbehave("blackhole")
    app._batches_extension.engine.reporter.report(member, SUCCEEDED, seconds=4)
    assert spooled(tmp_path) == 1
    proxy[0].behave()


def test_spooled_reports_are_sent_with_the_stores_own_timeouts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(
        reporter, "_record", lambda store, _: asked.append(store.longest_call_seconds) or NOTED
    )
    settlement = Settlement(bid="b", entry="e", happened="delivered")
    engine.reporter.replay(settlement)
    engine.reporter._send(settlement, 30)
    assert asked[0] == 80
    assert asked[1] < 1


def test_a_breaker_that_closes_while_another_thread_asks_is_no_error() -> None:
    circuit_breaker = CircuitBreaker(lambda: circuit_breaker.close() or 0.0)
    circuit_breaker.open()
    assert circuit_breaker.ask() == "do not try"
    assert circuit_breaker.ask() == "insist"


def test_an_open_breaker_lets_one_report_try_once_in_a_while() -> None:
    now = [0.0]
    circuit_breaker = CircuitBreaker(lambda: now[0])
    assert circuit_breaker.ask() == circuit_breaker.ask() == "insist"
    circuit_breaker.open()
    assert circuit_breaker.ask() == "do not try"
    now[0] += AWAY_SECONDS
    assert [circuit_breaker.ask(), circuit_breaker.ask()] == ["try once", "do not try"]
    circuit_breaker.close()
    assert circuit_breaker.ask() == "insist"


def test_a_soft_limit_while_reporting_sends_the_outcome_to_the_disk_at_once(
    app: Celery, engine: Engine, proxy: tuple[CutProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It strikes between two tries, because inside redis-py's connecting it would leave an open socket."""
    batch, members = members_of(app, 2)
    proxy[0].misbehave("refuse")
    pauses: list[float] = []

    def soft_limit(*_: object) -> None:
        raise SoftTimeLimitExceeded

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(engine.reporter, "_sleep", pause)
    receiver = _repeat_if_interrupted(
        lambda: [engine.reporter.report(member, SUCCEEDED, seconds=30) for member in members]
    )
    before = signal.signal(signal.SIGUSR1, soft_limit)
    try:
        receiver()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(pauses) == 1
    assert spooled(tmp_path) == 2
    proxy[0].behave()
    engine.replay.replay()
    assert batch.status().state == "success"


def test_how_a_callback_ended_is_spooled_too(
    app: Celery, engine: Engine, proxy: tuple[CutProxy, str], tmp_path: Path
) -> None:
    batch, (member,) = members_of(app, 1)
    engine.reporter.report(member, SUCCEEDED, seconds=30)
    wait_until(lambda: batch.status().callbacks[0].state == "published")
    proxy[0].misbehave("refuse")
    engine.reporter.settle(DeliveryRef(bid=batch.bid, entry="success:0"), "told", SUCCEEDED, lost=False)
    assert spooled(tmp_path) == 1
    proxy[0].behave()
    engine.replay.replay()
    assert batch.status().callbacks[0].state == "delivered"


def test_if_the_disk_fails_too_the_log_says_which_member_is_lost(
    make_app: Callable[..., Celery],
    proxy: tuple[CutProxy, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app(batches_backend_url=proxy[1], batches_spool_dir=tmp_path, batches_spool_size=0)
    app.task(told, name="told", shared=False)
    _, (member,) = members_of(app, 1)
    proxy[0].misbehave("refuse")
    app._batches_extension.engine.reporter.report(member, SUCCEEDED, seconds=0)
    (record,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert (record.batches_bid, record.batches_task_id) == (member.bid, member.task_id)
    assert record.batches_state == "succeeded"
    assert f"batch {member.bid}: the outcome of task {member.task_id} is not counted" in record.getMessage()
    assert "batches_spool_size" in record.getMessage()


def test_a_damaged_batch_does_not_keep_others_from_being_counted(
    app: Celery, engine: Engine, redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, (lost,) = members_of(app, 1)
    redis.delete(f"batches:{{{damaged.bid}}}:states")
    redis.hset(f"batches:{{{damaged.bid}}}:states", "no", "string")
    redis.expire(f"batches:{{{damaged.bid}}}:states", 60)
    well, (member,) = members_of(app, 1)
    engine.reporter.report(lost, SUCCEEDED, seconds=30)
    assert [r.batches_bid for r in caplog.records if r.levelno == logging.CRITICAL] == [damaged.bid]
    engine.reporter.report(member, SUCCEEDED, seconds=30)
    assert well.status().state == "success"
    assert not spooled(tmp_path)


def test_an_unforeseen_error_spools_the_outcome(
    app: Celery, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, (member,) = members_of(app, 1)

    def fail(*_: object) -> None:  # as redis-py did under a connection that another thread closed
        raise AttributeError("'NoneType' object has no attribute 'sendall'")

    with monkeypatch.context() as broken:
        broken.setattr(type(engine.store), "record_outcome", fail)
        engine.reporter.report(member, SUCCEEDED, seconds=30)
    assert spooled(tmp_path)
    engine.replay.replay()
    assert batch.status().state == "success"


def test_an_unforeseen_error_that_loses_a_spooled_outcome_is_critical(
    app: Celery, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, (member,) = members_of(app, 1)

    def fail(*_: object) -> None:
        raise AttributeError

    monkeypatch.setattr(type(engine.store), "record_outcome", fail)
    monkeypatch.setattr(type(engine.store), "record_successes", fail)
    engine.reporter.report(member, SUCCEEDED, seconds=30)
    engine.replay.replay()
    (lost,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert lost.getMessage().endswith(f"the outcome of task {member.task_id} is not counted")
    assert lost.exc_info


def test_in_the_spool_neither_a_damaged_batch_nor_an_unreadable_line_stops_the_rest(
    app: Celery,
    engine: Engine,
    redis: Redis,
    proxy: tuple[CutProxy, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged, (lost,) = members_of(app, 1)
    well, members = members_of(app, 2)
    proxy[0].misbehave("refuse")
    engine.reporter.report(members[0], SUCCEEDED, seconds=0)
    engine.reporter.report(lost, SUCCEEDED, seconds=0)
    (file,) = tmp_path.glob("*/appended")
    with file.open("ab") as out:
        out.write(b'\n{"v": 99}\n\xff\xfe\n{"v": 1, "report"')
    engine.reporter.report(members[1], SUCCEEDED, seconds=0)
    redis.delete(f"batches:{{{damaged.bid}}}:members")
    redis.hset(f"batches:{{{damaged.bid}}}:members", "no", "string")
    redis.expire(f"batches:{{{damaged.bid}}}:members", 60)
    proxy[0].behave()
    caplog.clear()
    engine.replay.replay()
    assert well.status().state == "success"
    assert not spooled(tmp_path)
    told = [r for r in caplog.records if r.name.endswith(".spool_replay")]
    levels = [r.levelname for r in told if r.levelno >= logging.ERROR]
    assert sorted(levels) == ["CRITICAL", "ERROR", "ERROR", "ERROR"]


def test_reports_to_a_newer_versions_batch_wait_for_an_upgrade(
    app: Celery, engine: Engine, redis: Redis, tmp_path: Path
) -> None:
    newer, (first,) = members_of(app, 1)
    well, (second,) = members_of(app, 1)
    redis.hset(f"batches:{{{newer.bid}}}", "schema", 99)
    engine.reporter.report(first, SUCCEEDED, seconds=30)
    engine.reporter.report(second, SUCCEEDED, seconds=30)
    assert well.status().state == "success", "the store is not away"
    for _ in range(2):
        engine.replay.replay()
    assert spooled(tmp_path) == 1
    redis.hset(f"batches:{{{newer.bid}}}", "schema", 1)
    engine.replay.start()  # as the upgraded worker does
    wait_until(lambda: newer.status().state == "success")
    engine.replay.stop()


def test_a_replay_that_is_cut_short_goes_on_where_it_was(
    app: Celery, engine: Engine, proxy: tuple[CutProxy, str], tmp_path: Path
) -> None:
    batch, members = members_of(app, 40)
    proxy[0].misbehave("refuse")
    for member in members:
        engine.reporter.report(member, SUCCEEDED, seconds=0)
    proxy[0].misbehave("cut_request", share=0.3)
    wait_until(lambda: (engine.replay.replay(), spooled(tmp_path) == 0)[1])
    proxy[0].behave()
    status = batch.status()
    assert (status.state, status.succeeded, status.total) == ("success", 40, 40)


def test_two_workers_that_replay_side_by_side_count_exactly(
    make_app: Callable[..., Celery], app: Celery, engine: Engine, proxy: tuple[CutProxy, str], tmp_path: Path
) -> None:
    other = make_app(batches_backend_url=proxy[1], batches_spool_dir=tmp_path)._batches_extension.engine
    batch, members = members_of(app, 300)
    proxy[0].misbehave("refuse")
    for member in members:
        engine.reporter.report(member, SUCCEEDED, seconds=0)
    for worker in (engine, other):
        worker.replay.start()
    proxy[0].behave()
    wait_until(lambda: not spooled(tmp_path))
    for worker in (engine, other):
        worker.replay.stop()
    status = batch.status()
    assert (status.state, status.succeeded) == ("success", 300)


def test_a_spool_that_cannot_be_used_is_logged_when_the_worker_starts(
    app: Celery, engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine.reporter._spool.path.mkdir(mode=0o755)
    engine.replay.start()
    wait_until(lambda: "chmod 700" in caplog.text)
    engine.replay.stop()
    assert {r.levelname for r in caplog.records if "chmod 700" in r.getMessage()} == {"ERROR"}


@pytest.mark.parametrize(("exc", "state"), [(StoreUnavailable("away"), "due"), (KeyError("bug"), "given_up")])
def test_a_notification_that_could_not_note_its_attempt_is_repeated_a_broken_one_not(
    app: Celery, engine: Engine, exc: Exception, state: str
) -> None:
    batch, (member,) = members_of(app, 1)
    engine.reporter.report(member, SUCCEEDED, seconds=30)
    wait_until(lambda: batch.status().callbacks[0].state == "published")
    ref = DeliveryRef(bid=batch.bid, entry="success:0")
    outcome = outcomes.dead(Context(id="x"), DELIVER_TASK, "failed", exc)
    engine.reporter.settle(ref, DELIVER_TASK, outcome, lost=False)
    wait_until(lambda: (engine.replay.replay(), batch.status().callbacks[0].state == state)[1])


@pytest.mark.parametrize(
    ("limits", "elapsed", "seconds"),
    [
        ((None, None), 100, 15),
        ((60, None), 10, 15),
        ((30, None), 10, 10),
        ((60, 20), 10, 5),
        ((20, 10), 12, 4),  # the soft limit was spent on the task; the hard one lies ahead
        ((20, 10), 20, 0),
        ((0, 0), 5, 15),
    ],
)
def test_reporting_takes_at_most_half_of_what_the_next_limit_leaves(
    limits: tuple[float | None, float | None], elapsed: float, seconds: float
) -> None:
    assert budget_within(limits, elapsed, at_most=15) == seconds


@pytest.mark.parametrize(
    ("message", "task", "worker", "limits"),
    [
        ((5, 4), (3, 2), (1, 1), (5, 4)),
        ((None, 4), (3, 2), (1, 1), (3, 4)),
        (None, (None, None), (7, 6), (7, 6)),
        (None, (None, None), (None, None), (None, None)),
    ],
)
def test_the_messages_limits_win_then_the_tasks_then_the_workers(
    message: object, task: tuple, worker: tuple, limits: tuple
) -> None:
    request = SimpleNamespace(timelimit=message)
    running = SimpleNamespace(time_limit=task[0], soft_time_limit=task[1])
    assert limits_of(running, request, worker) == limits
