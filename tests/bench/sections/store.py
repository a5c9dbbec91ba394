"""What the store does and holds: scripts, reports a second, bytes, and what grows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server
from tests.bench.child import child
from tests.bench.costs import Row, value_row
from tests.bench.processes import server_seconds
from tests.bench.store_app import GROUP, StoreApp

PART = "Store"
FINISHED = 20


def measure(rounds: int, reports: int, batches: int, largest: int, *, reporters: int = 4) -> Iterator[Row]:
    """Yield the store's rows."""
    with embedded_server() as url:
        redis = Redis.from_url(url)
        yield from _script(url, redis, rounds, reports)
        yield from _reports_a_second(url, rounds, reports, reporters)
        redis.flushall()
        yield from _bytes(StoreApp(url), redis)
        yield from _growth(StoreApp(url), redis, largest)
        redis.flushall()
        yield from _many(StoreApp(url), redis, rounds, batches)


def _script(url: str, redis: Any, rounds: int, reports: int) -> Iterator[Row]:
    """Yield what the server spends in the script for one report."""
    ours = StoreApp(url)
    for way, words, most in (("alone", "one report alone", 10), ("grouped", f"grouped by {GROUP}", 4)):
        spent, rates = [], []
        for _ in range(rounds):
            batch = ours.open()
            members = list(enumerate(ours.enrol(batch, reports)))
            batch.seal()
            redis.config_resetstat()
            before = server_seconds(redis)
            ours.ways[way](batch.bid, members)
            rates.append(reports / (server_seconds(redis) - before))
            spent.append(redis.info("commandstats")["cmdstat_evalsha"]["usec"] / reports)
            batch.delete()
        yield value_row(PART, f"the script, {words}", spent, "µs", most=most)
        yield value_row(PART, f"reports that a core of the server takes, {words}", rates, "a second")


def _reports_a_second(url: str, rounds: int, reports: int, reporters: int) -> Iterator[Row]:
    """Yield how many reports of one batch the store takes, from several processes at once."""
    ours = StoreApp(url)
    for way, least in (("alone", None), ("grouped", 100_000)):
        rates = []
        for _ in range(rounds):
            batch = ours.open()
            total = reports * reporters
            ours.enrol(batch, total)
            batch.seal()
            with ExitStack() as stack:
                children = [
                    stack.enter_context(child("store_app", url, batch.bid, str(place), str(reporters)))
                    for place in range(reporters)
                ]
                began = time.perf_counter()
                for one in children:
                    one.begin(way, reports)
                for one in children:
                    one.end()
                rates.append(total / (time.perf_counter() - began))
            assert batch.status().succeeded == total
            batch.delete()
        words = f"reports a second, {reporters} processes, one batch, {way}"
        yield value_row(PART, words, rates, "a second", least=least)


def _bytes(ours: StoreApp, redis: Any) -> Iterator[Row]:
    """Yield the memory of finished batches of ten whose callbacks were delivered."""
    for _ in range(FINISHED):
        batch = ours.open(callback=True)
        members = list(enumerate(ours.enrol(batch, 10)))
        batch.seal()
        [due] = ours.report(batch.bid, members).due
        ours.store.settle_delivery(batch.bid, due.entry, "delivered", 1, number=due.number)
    assert batch.status().callbacks[0].state == "delivered", batch.status()
    size = _size(redis) / FINISHED / 1000
    yield value_row(PART, "a finished batch of 10 with one callback", [size], "KB", most=1.5)


def _growth(ours: StoreApp, redis: Any, largest: int) -> Iterator[Row]:
    """Yield what grows with the number of members, and what should not."""
    total = 1000
    while total <= largest:
        redis.flushall()
        batch, began, before = ours.open(), time.process_time(), server_seconds(redis)
        ours.enrol(batch, total)
        spent = (time.process_time() - began) / total * 1e6
        theirs = (server_seconds(redis) - before) / total * 1e6
        yield value_row(PART, f"enrolment of {total:,}, the producer's CPU for a member", [spent], "µs")
        yield value_row(PART, f"enrolment of {total:,}, the server's CPU for a member", [theirs], "µs")
        total *= 10
    times = []
    for _ in range(20):
        began = time.perf_counter()
        assert batch.status().total == total // 10
        times.append((time.perf_counter() - began) * 1000)
    yield value_row(PART, f"`status()` of {total // 10:,}", times, "ms")
    yield value_row(PART, f"a member of {total // 10:,}", [_size(redis) / (total // 10)], "bytes", most=17)


def _many(ours: StoreApp, redis: Any, rounds: int, batches: int) -> Iterator[Row]:
    """Yield what so many live batches take, and how long it takes to iterate over them."""
    before = redis.info("memory")["used_memory"]
    for _ in range(batches):
        ours.enrol(ours.open(), 1)
    size = (redis.info("memory")["used_memory"] - before) / batches / 1000
    yield value_row(PART, f"a live batch of one member, of {batches:,}", [size], "KB")
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert sum(1 for _ in Batch.all(app=ours.app)) == batches
        times.append(time.perf_counter() - began)
    began, spent = time.process_time(), server_seconds(redis)
    ours.sweep()
    costs = (time.process_time() - began, server_seconds(redis) - spent)
    for who, cost in zip(("the sweeper's", "the server's"), costs, strict=True):
        yield value_row(PART, f"a sweep over {batches:,} live batches, {who} CPU", [cost], "s")
    yield value_row(PART, f"`Batch.all()` over {batches:,}", times, "s", most=0.4)


def _size(redis: Any) -> int:
    return sum(redis.memory_usage(key, samples=0) or 0 for key in redis.scan_iter(count=1000))
