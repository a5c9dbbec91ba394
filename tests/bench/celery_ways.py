"""Celery with the extension and without it: the ways in which a producer makes calls."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

if os.environ.get("BENCH_WITHOUT_HIREDIS"):
    sys.modules["hiredis"] = None  # type: ignore[assignment]  # redis-py then takes its own parser

from celery import Celery, chord, group
from celery import __version__ as celery_version
from kombu import __version__ as kombu_version
from redis import Redis
from redis import __version__ as redis_version
from redis.utils import HIREDIS_AVAILABLE

from celery_batches_notify import Batch, Batches
from tests.bench.child import serve

ROW = {"id": 1, "name": "Ada", "email": "ada@example.com", "tags": ["a", "b"], "amount": 12.5, "ok": True}
ROW |= {"none": None, "note": "x" * 170}
PAYLOADS: dict[str, object] = {"int": 7, "dict": ROW}
OVER_KEY = "bench:over"


def make_app(broker: str, store: str, *, bare: bool = False, results: bool = False, **conf: object) -> Celery:
    """Make an app with the benchmark's tasks; `bare` is without the extension."""
    app = Celery("bench", set_as_current=False)
    app.conf.update(broker_url=broker, result_backend=store if results else None, **conf)
    app.conf.broker_connection_retry_on_startup = True

    def noop(item: object) -> None:
        pass

    def over(*_: object) -> None:
        Redis.from_url(store).lpush(OVER_KEY, 1)

    app.task(noop, name="bench.noop", ignore_result=not results, shared=False)
    app.task(over, name="bench.over", ignore_result=True, shared=False)
    if not bare:
        app.conf.batches_backend_url = store
        Batches(app)
    return app


class Producers:
    """Two apps for one broker, one of them with batches, and one kind of argument."""

    def __init__(
        self, broker: str, store: str, *, payload: str, results: bool = False, confirm: bool = False
    ) -> None:
        transport = {"broker_transport_options": {"confirm_publish": True}} if confirm else {}
        self.plain = make_app(broker, store, bare=True, results=results, **transport)
        self.batching = make_app(broker, store, results=results, **transport)
        self.item = PAYLOADS[payload]
        self.noop: Any = self.plain.tasks["bench.noop"]
        self.member: Any = self.batching.tasks["bench.noop"]

    @property
    def ways(self) -> dict[str, Callable[[int], object]]:
        """All ways by their names."""
        ways = (self.delay, self.group, self.chord, self.map, self.block, self.add)
        ways += (self.map_memory, self.block_memory)
        return {way.__name__: way for way in ways}

    def delay(self, n: int) -> None:
        """Call the task without the extension."""
        for _ in range(n):
            self.noop.delay(self.item)
        self.plain.tasks["bench.over"].delay()

    def group(self, n: int) -> None:
        """Send Celery's group, without the extension."""
        group([self.noop.s(self.item) for _ in range(n)]).apply_async()

    def chord(self, n: int) -> None:
        """Send Celery's chord, without the extension."""
        chord([self.noop.s(self.item) for _ in range(n)])(self.plain.tasks["bench.over"].si())

    def map(self, n: int) -> None:
        """Send members in bulk."""
        self._batch().map(self.member, [self.item] * n)

    def block(self, n: int) -> None:
        """Send members in a block."""
        with self._batch():
            for _ in range(n):
                self.member.delay(self.item)

    def add(self, n: int) -> None:
        """Send signatures."""
        self._batch().add(*[self.member.s(self.item) for _ in range(n)])

    def map_memory(self, n: int) -> dict[str, int]:
        """Send members from a generator; return by how many bytes the process grew."""
        return _grown(lambda: self._batch().map(self.member, (self.item for _ in range(n))))

    def block_memory(self, n: int) -> dict[str, int]:
        """Send members in a block; return by how many bytes the process grew."""
        return _grown(lambda: self.block(n))

    def _batch(self) -> Batch:
        return Batch(app=self.batching).on("success", self.batching.tasks["bench.over"].si())

    def purge(self) -> None:
        """Empty the queue."""
        self.plain.control.purge()


def _grown(do: Callable[[], object]) -> dict[str, int]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    do()
    return {"grown": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024}


def versions() -> dict[str, str]:
    """Return what is measured."""
    return {
        "Celery": celery_version,
        "kombu": kombu_version,
        "redis-py": redis_version + (" with hiredis" if HIREDIS_AVAILABLE else ""),
    }


def main(broker: str, store: str, options: str) -> None:
    """Send what is asked for."""
    producers = Producers(broker, store, **json.loads(options))
    serve(producers.ways, empty=producers.purge, facts={"versions": versions(), "hiredis": HIREDIS_AVAILABLE})
