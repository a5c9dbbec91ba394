"""huey: tasks one by one, and its chord."""

from __future__ import annotations

import os

from huey import RedisHuey, chord
from huey import __version__ as version
from redis import Redis

from tests.bench.child import serve

URL = os.environ["BENCH_URL"]
redis = Redis.from_url(URL)
huey = RedisHuey("bench", url=URL)


@huey.task()
def noop(item: object) -> None:
    """Do nothing."""


@huey.task()
def over(*_: object) -> None:
    """Say that all are over."""
    redis.lpush("bench:over", 1)


def loop(n: int) -> None:
    """Call tasks one by one."""
    for _ in range(n):
        noop(7)
    over()


def together(n: int) -> None:
    """Send a chord."""
    huey.enqueue(chord([noop.s(7) for _ in range(n)], over.s()))


def main() -> None:
    """Send what is asked for."""
    serve({"loop": loop, "together": together}, empty=redis.flushdb, facts={"version": version})
