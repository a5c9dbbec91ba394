"""The short way to the server is as safe as redis-py's, whatever becomes of the connection that it keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from redis import Redis
from redis.connection import Connection
from redis.exceptions import NoScriptError

from celery_batches_notify.settings import Settings
from celery_batches_notify.store import fast_eval
from celery_batches_notify.store.client import connect
from celery_batches_notify.store.fast_eval import FastEval
from celery_batches_notify.store.store import Store

ECHO = "return ARGV"


@pytest.fixture
def settings(server_url: str) -> Settings:
    app = Celery(set_as_current=False)
    app.conf.update(batches_backend_url=server_url)
    return Settings.from_app(app)


@pytest.fixture
def client(settings: Settings) -> Iterator[Redis]:
    with connect(settings) as client:
        yield client


def ask(way: FastEval, client: Redis, *args: fast_eval.Argument) -> list[bytes]:
    return way.evalsha(client.script_load(ECHO), [], args)


def test_arguments_arrive_as_redis_py_sends_them(client: Redis) -> None:
    digest, args = client.script_load(ECHO), ("ö", b"\xff\r\n", 7, 1.5, 1e30, "")
    assert FastEval(client).evalsha(digest, ["k"], args) == client.evalsha(digest, 1, "k", *args)


def test_a_script_that_the_server_does_not_know_is_said_so(client: Redis) -> None:
    with pytest.raises(NoScriptError):
        FastEval(client).evalsha("0" * 40, [], [])


@pytest.mark.parametrize("no_retry", [False, True])
def test_a_connection_that_was_cut_while_it_was_idle_is_replaced(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch, no_retry: bool
) -> None:
    monkeypatch.setattr(fast_eval, "IDLE_SECONDS", 0)
    monkeypatch.setattr("celery_batches_notify.store.client.NO_RETRY_SECONDS", 10)
    with connect(settings, no_retry=no_retry) as client:
        way = FastEval(client)
        ask(way, client, 1)
        redis.client_kill_filter(_type="normal", skipme=True)
        assert ask(way, client, 2) == [b"2"]


def test_a_connection_that_was_cut_in_use_is_asked_again(client: Redis, redis: Redis) -> None:
    way = FastEval(client)
    ask(way, client, 1)
    redis.client_kill_filter(_type="normal", skipme=True)
    assert ask(way, client, 2) == [b"2"]


def test_a_reply_that_was_not_waited_for_is_never_the_next_calls(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = FastEval(client)
    ask(way, client, 1)

    def interrupted(*_: object, **__: object) -> None:
        raise SoftTimeLimitExceeded

    digest = client.script_load(ECHO)
    with monkeypatch.context() as patch, pytest.raises(SoftTimeLimitExceeded):
        patch.setattr(Connection, "read_response", interrupted)
        way.evalsha(digest, [], ["the first"])
    assert way.evalsha(digest, [], ["the second"]) == [b"the second"]


def test_threads_never_share_a_connection(client: Redis) -> None:
    way, digest, wrong = FastEval(client), client.script_load(ECHO), []

    def run(name: int) -> None:
        wrong.extend(n for n in range(200) if way.evalsha(digest, [], [name, n]) != [b"%d" % name, b"%d" % n])

    threads = [threading.Thread(target=run, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_pool_of_one_connection_is_enough(server_url: str) -> None:
    with Redis.from_url(server_url, max_connections=1) as small:
        way = FastEval(small)
        assert ask(way, small, 1) == [b"1"]
        assert small.ping()


def test_a_closed_client_opens_its_connection_again(client: Redis) -> None:
    way = FastEval(client)
    ask(way, client, 1)
    client.close()
    assert ask(way, client, 2) == [b"2"]


def test_threads_that_are_first_share_one_client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `close` did not know of would stay open."""
    store, both = Store(settings), threading.Barrier(2)

    def connect_together(*args: Any, **options: Any) -> Redis:
        both.wait(30)
        return connect(*args, **options)

    monkeypatch.setattr("celery_batches_notify.store.base.connect", connect_together)
    met: list[Redis] = []
    threads = [threading.Thread(target=lambda: met.append(store.client)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [store.client] * 2
    store.close()
