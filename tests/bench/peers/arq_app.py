"""arq: jobs one by one; it has no group with a callback."""

from __future__ import annotations

import asyncio
import os
from urllib.parse import urlsplit

from arq import ArqRedis, create_pool
from arq.connections import RedisSettings
from arq.version import VERSION
from redis import Redis

from tests.bench.child import serve

URL = os.environ["BENCH_URL"]
redis = Redis.from_url(URL)
runner = asyncio.new_event_loop()


async def _open():
    where = urlsplit(URL)
    return await create_pool(
        RedisSettings(host=where.hostname, port=where.port, database=int(where.path[1:]))
    )


async def _loop(pool: ArqRedis, n: int) -> None:
    for _ in range(n):
        await pool.enqueue_job("noop", 7)


def main() -> None:
    """Enqueue jobs one by one."""
    pool = runner.run_until_complete(_open())
    loop = lambda n: runner.run_until_complete(_loop(pool, n))  # noqa: E731
    serve({"loop": loop}, empty=redis.flushdb, facts={"version": VERSION})
