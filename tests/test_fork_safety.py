"""Forks wait for TLS handshakes, because a child inherits OpenSSL's locks as they are."""

from __future__ import annotations

import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import MasterNotFoundError

from celery_batches_notify import StoreUnavailable, fork_safety
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.client import close, connect
from celery_batches_notify.store.store import Store
from celery_batches_notify.testing.server import find_free_port
from tests.support.forked import in_fork
from tests.support.servers import wait_until
from tests.support.topologies import HAS_CLUSTER, tls


def settings_of(url: str, **options: Any) -> Settings:
    return Settings(backend_url=url, backend_source="batches_backend_url", backend_options=options)


def fork_and(answer: str) -> str:
    """Return this from a fork's child, after it passed `forks.waiting`."""

    def wait() -> str:
        with fork_safety.forks.waiting():
            return answer

    return in_fork(wait)


@contextmanager
def handshake_that_hangs() -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """Accept a TLS client's greeting, close it half a second later, and set an event for both."""
    greeted, cut = threading.Event(), threading.Event()

    class Greeted(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1)
            greeted.set()
            time.sleep(0.5)
            cut.set()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeted) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield f"rediss://127.0.0.1:{server.server_address[1]}/0", greeted, cut
        server.shutdown()
        serving.join()


def test_a_fork_waits_for_a_connection_that_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_safety, "WAIT_SECONDS", 60)
    with handshake_that_hangs() as (url, greeted, cut):
        store = Store(settings_of(url, socket_timeout=20, retry=None))

        def ask() -> None:
            with pytest.raises(StoreUnavailable):
                store.read_status("b" * 22)

        asking = threading.Thread(target=ask)
        asking.start()
        greeted.wait()
        assert fork_and("a child connects at once") == "a child connects at once"
        assert cut.is_set()
        asking.join()
        store.close()


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return for each TLS handshake of the test whether forks waited."""
    seen: list[bool] = []
    wrap = ssl.SSLContext.wrap_socket

    def wrap_and_tell(self: ssl.SSLContext, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        seen.append(fork_safety.forks._inside > 0)
        return wrap(self, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap_and_tell)
    return seen


@pytest.mark.skipif(not HAS_CLUSTER, reason="this redis-py has no Cluster that batches can use")
def test_forks_wait_for_a_cluster(tmp_path: Path, held_back: list[bool]) -> None:
    bus = str(find_free_port())
    with tls(tmp_path, "--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", bus) as secured:
        with Redis.from_url(secured.url, **secured.options) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok", what="slots")
        held_back.clear()
        client: Any = connect(settings_of(secured.url, cluster=True, **secured.options))
        assert client.get("nothing") is None
        assert len(held_back) > 1
        client.disconnect_connection_pools()
        assert client.get("nothing") is None
        assert len(held_back) > 2 and all(held_back)
        known = len(held_back)
        (joined,) = client.get_nodes()
        joined.redis_connection.close()
        joined.redis_connection = None  # as of one that was met only just now
        assert client.get("nothing") is None
        assert len(held_back) > known and all(held_back)
        close(client)


def test_forks_wait_for_sentinels_and_for_their_master(held_back: list[bool]) -> None:
    with handshake_that_hangs() as (url, *_):
        over_tls = {"ssl": True, "sentinel_kwargs": {"ssl": True, "retry": None}, "master_name": "m"}
        client = connect(settings_of(url.replace("rediss", "sentinel"), **over_tls))
        with pytest.raises(MasterNotFoundError):
            client.ping()
        tried = len(held_back)
    with handshake_that_hangs() as (url, *_):
        connection: Any = client.connection_pool.make_connection()
        with pytest.raises(RedisConnectionError):
            connection.connect_to(("127.0.0.1", urlsplit(url).port))
    assert len(held_back) > tried > 0 and all(held_back)
    close(client)


def test_a_fork_does_not_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_safety, "WAIT_SECONDS", 0.1)
    leave, entered = threading.Event(), threading.Event()

    def stay() -> None:
        with fork_safety.forks.waiting():
            entered.set()
            leave.wait()

    staying = threading.Thread(target=stay)
    staying.start()
    entered.wait()
    for _ in range(2):
        assert fork_and("gone on") == "gone on"
    with fork_safety.forks.waiting():  # it is open to others again
        leave.set()
        staying.join()
    monkeypatch.undo()
    assert fork_and("gone on") == "gone on"


def test_who_connects_all_the_time_does_not_hold_a_fork_for_ever() -> None:
    over = threading.Event()

    def connect_all_the_time() -> None:
        while not over.is_set():
            with fork_safety.forks.waiting():
                time.sleep(0.001)

    threads = [threading.Thread(target=connect_all_the_time) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert [fork_and(str(n)) for n in range(20)] == [str(n) for n in range(20)]
    over.set()
    for thread in threads:
        thread.join()
