"""taskiq: tasks one by one; it has no group with a callback."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version

from redis import Redis
from taskiq_redis import ListQueueBroker

from tests.bench.child import serve

URL = os.environ["BENCH_URL"]
redis = Redis.from_url(URL)
broker = ListQueueBroker(URL, socket_timeout=None)  # redis-py 8 ends a worker that waits for 5 s
runner = asyncio.new_event_loop()


@broker.task
async def noop(item: object) -> None:
    """Do nothing."""


@broker.task
async def over() -> None:
    """Say that all are over."""
    redis.lpush("bench:over", 1)


async def _loop(n: int) -> None:
    for _ in range(n):
        await noop.kiq(7)
    await over.kiq()


def loop(n: int) -> None:
    """Send tasks one by one."""
    runner.run_until_complete(_loop(n))


def main() -> None:
    """Send what is asked for."""
    runner.run_until_complete(broker.startup())
    serve({"loop": loop}, empty=redis.flushdb, facts={"version": version("taskiq")})
