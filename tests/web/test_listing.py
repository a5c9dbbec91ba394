"""The list reads few fields of few batches, however many there are."""

from __future__ import annotations

import pytest
from celery import Celery
from redis import Redis
from starlette.testclient import TestClient

from celery_batches_notify.engine import find_engine
from celery_batches_notify.membership import State
from celery_batches_notify.web import census
from celery_batches_notify.web.census import Census
from celery_batches_notify.web.listing import Query, read_list
from tests.web.scene import make_batch, report

DEAD, SUCCEEDED = State.DEAD, State.SUCCEEDED


def add_batches(app: Celery, redis: Redis, count: int, **fields: str | int) -> list[str]:
    """Store so many batches like a sealed one of two members, with these fields; the newest first."""
    pattern = redis.hgetall(f"batches:{{{make_batch(app, 2).bid}}}")
    bids = [f"many-{n:08}" for n in range(count)]
    with redis.pipeline(transaction=False) as pipe:
        for n, bid in enumerate(bids):
            pipe.hset(f"batches:{{{bid}}}", mapping={**pattern, **fields})
            pipe.expire(f"batches:{{{bid}}}", 600)
            pipe.zadd("batches:index", {bid: 1_700_000_000_000 + n})
        pipe.execute()
    return bids[::-1]


def calls_of(redis: Redis, command: str) -> int:
    """How often a command was called since the statistics were reset."""
    return int(redis.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_the_first_page_reads_the_batches_that_it_shows(app: Celery, redis: Redis) -> None:
    add_batches(app, redis, 600)
    engine, counted = find_engine(app), Census()
    counted.take(engine)
    redis.config_resetstat()
    page = read_list(engine, Query(), counted)
    assert (len(page.rows), page.looked_at, page.total) == (50, 50, 601)
    assert calls_of(redis, "hmget") == 51 + 50, "one look at each, and one more that says there are others"


def test_a_search_reads_the_rows_of_what_it_finds_only(app: Celery, redis: Redis) -> None:
    add_batches(app, redis, 600)
    engine, counted = find_engine(app), Census()
    counted.take(engine)
    for query in (Query(text="tag:none"), Query(text="many-00000003"), Query(state="done")):
        redis.config_resetstat()
        page = read_list(engine, query, counted)
        assert (page.looked_at, page.next) == (601, "")
        assert calls_of(redis, "hmget") == 601 + len(page.rows)
        assert not calls_of(redis, "hgetall")


def test_a_settled_batch_is_read_once_in_five_minutes(app: Celery, redis: Redis) -> None:
    add_batches(app, redis, 300, success_at=1, finish_at=1)
    clock = [0.0]
    engine, counted = find_engine(app), Census(lambda: clock[0])
    for now, reads in ((0, 301), (5, 1), (295, 1), (300, 301)):
        clock[0] = now
        redis.config_resetstat()
        assert counted.take(engine)[0].tabs["done"] == 300
        assert calls_of(redis, "hmget") == reads, now


@pytest.mark.parametrize(
    "fields",
    [{}, {"success_at": 1, "open": 1}, {"success_at": 1, "given_up": 1}, {"finish_at": 1, "dead": 1}],
    ids=["runs", "has open callbacks", "gave a callback up", "has dead members"],
)
def test_a_batch_that_may_change_is_read_at_every_count(
    app: Celery, redis: Redis, fields: dict[str, int]
) -> None:
    (bid,) = add_batches(app, redis, 1, **fields)
    clock = [0.0]
    engine, counted = find_engine(app), Census(lambda: clock[0])
    assert counted.take(engine)[0].tabs["stopped"] == 0
    redis.hdel(f"batches:{{{bid}}}", "success_at")
    redis.hset(f"batches:{{{bid}}}", "cancelled_at", 1)
    clock[0] = 5
    assert counted.take(engine)[0].tabs["stopped"] == 1


def test_what_is_known_of_settled_batches_is_bounded(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "SETTLED_AT_MOST", 20)
    bids = add_batches(app, redis, 60, success_at=1, finish_at=1)
    engine, counted = find_engine(app), Census()
    for start in range(0, 60, 10):
        ten = bids[start : start + 10]
        assert counted.select(engine, ten, lambda of: of is not None, {}) == ten
    assert len(counted._settled) <= 30


def test_expired_batches_are_looked_at_too_so_a_scan_of_them_ends(
    app: Celery, redis: Redis, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make_batch(app, 0, "needle")
    redis.zadd("batches:index", {f"expired-{n:04}": 9_000_000_000_000 for n in range(600)})
    monkeypatch.setattr("celery_batches_notify.web.listing.LOOKED_AT_MOST", 500)
    first = client.get("/list.json?q=needle").json()
    assert (first["batches"], first["looked_at"], first["total"]) == ([], 500, 601)
    second = client.get(f"/list.json?q=needle&after={first['next']}").json()
    assert [each["bid"] for each in second["batches"]] == [wanted.bid]
    assert second["next"] is None


def test_a_batch_that_cannot_be_read_needs_hands(app: Celery, redis: Redis, client: TestClient) -> None:
    broken, newer, fine = (make_batch(app, 1) for _ in range(3))
    redis.hset(f"batches:{{{broken.bid}}}", "total", "many")
    redis.hset(f"batches:{{{newer.bid}}}", "schema", 99)
    for state in ("", "hands"):
        rows = client.get(f"/list.json?state={state}").json()["batches"]
        found = {row["bid"]: "error" in row for row in rows}
        expected = {newer.bid: True, broken.bid: True}
        assert found == (expected if state else expected | {fine.bid: False})
    assert [row["bid"] for row in client.get("/list.json").json()["urgent"]] == [newer.bid, broken.bid]


def test_the_urgent_batches_are_read_anew(app: Celery, redis: Redis) -> None:
    batch = make_batch(app, 2)
    report(batch, {0: DEAD})
    engine, counted = find_engine(app), Census(lambda: 0.0)
    assert read_list(engine, Query(), counted).urgent[0].status.succeeded == 0  # type: ignore[union-attr]
    report(batch, {1: SUCCEEDED})
    assert read_list(engine, Query(), counted).urgent[0].status.succeeded == 1  # type: ignore[union-attr]
    batch.delete()
    assert read_list(engine, Query(), counted).urgent == ()
