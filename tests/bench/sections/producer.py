"""What it costs to send members, beside `delay()` without the extension."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

from celery_batches_notify.testing.server import embedded_server
from tests.bench.child import Child, child
from tests.bench.costs import Cost, Row, by_turns, speed_row, value_row
from tests.bench.servers import rabbitmq

KINDS = {
    "an integer": {"payload": "int"},
    "a dict of 280 bytes": {"payload": "dict"},
    "an integer, results kept": {"payload": "int", "results": True},
}
WAYS = {"map": "`map`", "block": "`with batch:` around `delay()`", "add": "`add(*signatures)`"}
AIMS = {"map": (45, 20, 14), "block": (14, 10, 8), "add": (8, None, None)}
RABBIT = {
    "RabbitMQ": ({"payload": "int"}, 4),
    "RabbitMQ with confirms": ({"payload": "int", "confirm": True}, 10),
}


def measure(rounds: int, calls: int, *, memory: int = 100_000) -> Iterator[Row]:
    """Yield the rows of every way, on Redis with hiredis and without, and on RabbitMQ."""
    with embedded_server() as url:
        yield from _on_redis("Producer, Redis", url, rounds, calls, "1")
        yield from _on_redis("Producer, Redis, with hiredis", url, rounds, calls, "")
        with rabbitmq() as broker:
            if broker is None:
                print("RabbitMQ is not installed, so its rows are missing.", flush=True)
            else:
                yield from _on_rabbitmq(broker, url, rounds, calls)
        yield from _memory(url, memory)


def _on_redis(part: str, url: str, rounds: int, calls: int, without: str) -> Iterator[Row]:
    for place, (title, options) in enumerate(KINDS.items()):
        with open_producers(url, url, options, without) as one:
            if not without and not one.facts["hiredis"]:
                print("hiredis is not installed, so its rows are missing.", flush=True)
                return
            costs = run_by_turns(one, ["delay", *WAYS], rounds, calls)
        for way, words in WAYS.items():
            least = AIMS[way][place]
            yield speed_row(part, f"{words}, {title}", costs[way], costs["delay"], least=least)


def _on_rabbitmq(broker: str, url: str, rounds: int, calls: int) -> Iterator[Row]:
    for title, (options, least) in RABBIT.items():
        with open_producers(broker, url, options) as one:
            costs = run_by_turns(one, ["delay", "map", "block"], rounds, calls)
        part = f"Producer, {title}"
        yield speed_row(
            part,
            f"{WAYS['map']}, an integer",
            costs["map"],
            costs["delay"],
            least=least,
            by_clock="confirm" in options,
        )
        yield speed_row(part, f"{WAYS['block']}, an integer", costs["block"], costs["delay"])


def _memory(url: str, calls: int) -> Iterator[Row]:
    """Yield what a producer's memory grows by."""
    part = "Producer, memory"
    grown = []
    for _ in range(3):
        with open_producers(url, url, {"payload": "int"}) as one:
            one.run("block", 1000)
            grown.append(one.ask("block_memory", calls)["grown"] / calls / 1000)
    yield value_row(part, "a call that waits in a block", grown, "KB", most=0.7)
    with open_producers(url, url, {"payload": "int"}) as one:
        one.run("map", 10_000)
        more = one.ask("map_memory", 3 * calls)["grown"] / 1e6
    words = f"`map` of {3 * calls:,} items from a generator, more than of 10,000"
    yield value_row(part, words, [more], "MB", most=2)


def open_producers(
    broker: str, store: str, options: dict[str, object], without: str = ""
) -> AbstractContextManager[Child]:
    return child("celery_ways", broker, store, json.dumps(options), BENCH_WITHOUT_HIREDIS=without)


def run_by_turns(one: Child, ways: list[str], rounds: int, calls: int) -> dict[str, list[Cost]]:
    """Run these ways by turns; the fast ones make five times as many calls, so that they take as long."""
    number = {way: calls * (1 if way == "delay" else 5) for way in ways}
    return by_turns({way: partial(one.run, way, number[way]) for way in ways}, rounds)
