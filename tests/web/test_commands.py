"""The commands that the page sends to the store: few, reading ones, and none that grows with a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis
from starlette.testclient import TestClient

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from celery_batches_notify.store.members import STATES_CHUNK
from celery_batches_notify.store.statuses import ROWS_AT_ONCE
from celery_batches_notify.web.census import COUNTED_AT_MOST
from tests.web.scene import make_batch, report, write_states

CONNECTION = {"AUTH", "CLIENT", "HELLO", "PING", "SELECT"}
TRANSACTION = {"MULTI", "EXEC", "TIME", "PTTL"}
READS = {"EXISTS", "GET", "GETRANGE", "HGETALL", "HLEN", "HMGET", "LRANGE", "STRLEN", "ZCARD", "ZRANGE"}
SCRIPTS = {"EVAL", "EVALSHA"}  # MONITOR shows what they do as well
BOUNDED_HASHES = ("}", ":outbox", ":failures", ":curve")
OF_A_BATCH = ("", ".json", "/all.json", "/part", "/map.png", "/members?from=99", "/members?state=dead")
OF_THE_LIST = ("/", "/list.part?state=live", "/list.json?q=tag:x", "/?q=import&state=done")
LARGE = 5 * STATES_CHUNK


@contextmanager
def watching(redis: Redis) -> Iterator[list[list[str]]]:
    """Collect the commands that the server gets within the block."""
    commands: list[list[str]] = []
    marker = uuid4().hex
    with redis.monitor() as monitor:
        yield commands
        redis.echo(marker)
        for each in monitor.listen():
            if marker in each["command"]:
                break
            command = each["command"].split()
            if command[0] not in CONNECTION:
                commands.append(command)


def do_nothing() -> None:
    """Be a callback that nobody runs."""


def make_failed(app: Celery) -> Batch:
    """A batch with more failures than are kept, and a callback, so that its deliveries are read."""
    done = app.task(name="billing.tasks.done", shared=False)(do_nothing)
    batch = make_batch(app, 200, tags=["x"], on=[("success", done.si())])
    report(batch, {**dict.fromkeys(range(120), State.DEAD), 120: State.FAILING, 121: State.SUCCEEDED})
    return batch


@pytest.fixture
def small(app: Celery) -> Batch:
    """A batch of 200 members."""
    return make_failed(app)


@pytest.fixture
def large(app: Celery, redis: Redis) -> Batch:
    """A batch of 327,680 members."""
    batch = make_failed(app)
    write_states(redis, batch, LARGE, {State.DEAD: range(120), State.FAILING: [LARGE - 1]})
    return batch


def test_no_command_of_the_page_grows_with_a_batch(
    redis: Redis, client: TestClient, small: Batch, large: Batch
) -> None:
    for path in OF_A_BATCH:
        sent = []
        for batch in (small, large):
            with watching(redis) as commands:
                assert client.get(f"/{batch.bid}{path}").status_code == 200
            for command in commands:
                check_bounded(command)
            sent.append(Counter(command[0] for command in commands))
        of_small, of_large = sent
        windows = -(-LARGE // 4 // STATES_CHUNK) - 1
        assert of_large["GETRANGE"] - of_small["GETRANGE"] in (0, windows), path
        of_small["GETRANGE"] = of_large["GETRANGE"] = 0
        assert of_small == of_large, path
        assert of_small.total() < 30, path


def test_a_page_that_is_asked_for_again_reads_no_members_states(
    redis: Redis, client: TestClient, large: Batch
) -> None:
    client.get(f"/{large.bid}")
    with watching(redis) as commands:
        client.get(f"/{large.bid}/part")
    assert not [command for command in commands if command[0] == "GETRANGE"]


@pytest.mark.parametrize("path", OF_THE_LIST)
def test_no_command_of_the_list_is_unbounded(
    app: Celery, redis: Redis, client: TestClient, small: Batch, path: str
) -> None:
    for _ in range(30):
        make_batch(app, 1)
    redis.zadd("batches:index", {f"expired-{n:04}": n for n in range(3 * ROWS_AT_ONCE)})
    with watching(redis) as commands:
        assert client.get(path).status_code == 200
    assert not {command[0] for command in commands} & {"HGETALL", "GETRANGE", "MULTI"}, "rows only"
    for command in commands:
        check_bounded(command)


def check_bounded(command: list[str]) -> None:
    """Fail if a command writes, or if what it reads can grow with the batch or with the list."""
    name, *args = command
    assert name in TRANSACTION | READS | SCRIPTS, command
    if name == "EVALSHA":
        assert int(args[1]) <= ROWS_AT_ONCE, command
    if name == "HGETALL":
        assert args[0].endswith(BOUNDED_HASHES), command
    if name == "GETRANGE":
        assert int(args[2]) - int(args[1]) < STATES_CHUNK, command
    if name == "LRANGE":
        assert args[1:] == ["-100", "-1"], command
    if name == "ZRANGE":
        most = ROWS_AT_ONCE if "WITHSCORES" in args else COUNTED_AT_MOST
        assert int(args[args.index("LIMIT") + 2]) <= most, command
