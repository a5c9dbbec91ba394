"""The store goes away under real workers and comes back: every outcome is counted once."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.testing.server import embedded_server
from tests.projects.proj_tasks import declare_tasks
from tests.support.away import add_members, new_batch, spooled
from tests.support.cut_proxy import CutProxy, cut_proxy
from tests.support.servers import Ear, kill, running_worker, wait_until

TOTALS = {"batches:totals:{totals}", "batches:totals:{totals}:counted"}
LISTS = {"batches:index", "batches:live", "batches:cancelled", "batches:workers"}
KNOWN = {*LISTS, *TOTALS, "batches:sweeper", "notes"}
COUNTED_SECONDS = 20  # 10 are promised after the store's return; the machine may be slow


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    """Start a server that holds only batches, so that a test can stop it."""
    with embedded_server("--enable-debug-command", "local") as url:
        yield url


@pytest.fixture
def store(store_url: str) -> Iterator[Redis]:
    with Redis.from_url(store_url, socket_timeout=30) as client:
        client.flushall()
        yield client
        immortal = [key for key in client.scan_iter() if client.ttl(key) == -1]
    assert not immortal


@pytest.fixture
def proxied(store_url: str, store: Redis) -> Iterator[tuple[CutProxy, str]]:
    with cut_proxy(store_url) as proxied:
        yield proxied


@pytest.fixture
def app(make_app: Callable[..., Celery], store_url: str, server_url: str) -> Celery:
    """Return the producer's app, which always reaches the store."""
    app = make_app(batches_backend_url=store_url, broker=server_url, task_default_queue="celery")
    declare_tasks(app)
    return app


@contextmanager
def worker_of(
    store_url: str, broker: str, spool: Path, pool: str = "prefork"
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"BATCHES_TEST_BROKER": broker, "BATCHES_TEST_SPOOL": str(spool)}
    with running_worker(store_url, pool, app="proj_away", **environment) as process:
        yield process


def test_outcomes_of_an_absence_are_counted_soon_after_it_and_their_callbacks_follow(
    app: Celery, store: Redis, redis: Redis, proxied: tuple[CutProxy, str], server_url: str, tmp_path: Path
) -> None:
    proxy, url = proxied
    with worker_of(url, server_url, tmp_path):
        batch, ear = Batch(app=app, keep_open=True), Ear(store)
        batch.on("success", app.signature("proj.silent", ("told",), immutable=True))
        add_members(batch, 100, "slow", 0.01)
        wait_until(lambda: batch.status().succeeded > 50)
        proxy.misbehave("refuse")
        add_members(batch, 700, "slow", 0.01).seal()
        wait_until(lambda: spooled(tmp_path) > 300, what="a full spool")
        proxy.behave()
        wait_until(lambda: redis.llen("celery") == 0)
        wait_until(lambda: batch.status().state == "success", seconds=COUNTED_SECONDS)
        wait_until(lambda: batch.status().callbacks[0].state == "delivered", what="the callback")
        wait_until(lambda: not spooled(tmp_path))
    status = batch.status()
    assert (status.succeeded, status.failures) == (800, 0)
    tokens = ear.listen()[batch.bid]
    ear.close()
    assert (tokens.count("+"), tokens.count("!"), tokens.count("$")) == (800, 1, 1)


def test_a_worker_that_is_killed_with_a_full_spool_leaves_it_to_the_next_one(
    app: Celery, store: Redis, redis: Redis, proxied: tuple[CutProxy, str], server_url: str, tmp_path: Path
) -> None:
    proxy, url = proxied
    with worker_of(url, server_url, tmp_path) as worker:
        batch = add_members(new_batch(app), 400, "slow", 0.005)
        wait_until(lambda: batch.status().succeeded > 50)
        proxy.misbehave("blackhole")
        # One may be both, if the store counted it and the reply was lost.
        wait_until(lambda: spooled(tmp_path) + batch.status().succeeded >= 400, what="the last task")
        kill(worker)
    proxy.behave()
    assert batch.status().succeeded < 400
    with worker_of(url, server_url, tmp_path):
        wait_until(lambda: batch.status().state == "success", seconds=COUNTED_SECONDS)
        wait_until(lambda: not spooled(tmp_path))
    assert batch.status().succeeded == 400


def another(store: Redis) -> Redis:
    """Return a separate, patient client, because a second try would spoil the fault."""
    options = store.connection_pool.connection_kwargs
    return Redis(**{name: options[name] for name in ("host", "port", "socket_timeout")})


@contextmanager
def paused(store: Redis) -> Iterator[None]:
    store.execute_command("CLIENT", "PAUSE", 3000, "ALL")
    yield
    wait_until(store.ping)


@contextmanager
def asleep(store: Redis) -> Iterator[None]:
    with another(store) as other:
        sleeper = threading.Thread(target=lambda: other.execute_command("DEBUG", "SLEEP", 3))
        sleeper.start()
        yield
        sleeper.join()


@contextmanager
def changed(store: Redis, name: str, value: object) -> Iterator[None]:
    (before,) = store.config_get(name).values()
    store.config_set(name, value)
    yield
    time.sleep(2)  # the fault lasts so long
    store.config_set(name, before)


@contextmanager
def no_clients(store: Redis) -> Iterator[None]:
    with changed(store, "maxclients", 1):
        store.client_kill_filter(_type="normal", skipme=True)
        yield


@contextmanager
def read_only(store: Redis) -> Iterator[None]:
    store.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield
    time.sleep(2)
    store.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def busy(store: Redis) -> Iterator[None]:
    (before,) = store.config_get("lua-time-limit").values()
    store.config_set("lua-time-limit", 100)
    with another(store) as other:

        def spin() -> None:
            with pytest.raises(Exception, match="kill"):
                other.eval("while true do end", 0)

        spinner = threading.Thread(target=spin)
        spinner.start()
        yield
        time.sleep(2)
        store.script_kill()
        spinner.join()
    store.config_set("lua-time-limit", before)


FAULTS: dict[str, Callable[[Redis], AbstractContextManager[None]]] = {
    "CLIENT PAUSE": paused,
    "DEBUG SLEEP": asleep,
    "out of memory": lambda store: changed(store, "maxmemory", 1),
    "max clients": no_clients,
    "READONLY": read_only,
    "BUSY": busy,
}


@pytest.fixture(scope="module")
def worker(store_url: str, server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    spool = tmp_path_factory.mktemp("spool")
    with worker_of(store_url, server_url, spool):
        yield spool


@pytest.mark.parametrize("fault", FAULTS)
def test_no_task_fails_and_the_count_is_exact_whatever_the_store_suffers(
    worker: Path, app: Celery, store: Redis, fault: str
) -> None:
    batch = add_members(new_batch(app), 300, "slow", 0.01)
    wait_until(lambda: batch.status().succeeded > 30)
    with FAULTS[fault](store):
        pass
    wait_until(lambda: batch.status().state == "success", seconds=COUNTED_SECONDS)
    wait_until(lambda: batch.status().callbacks[0].state == "delivered")
    status = batch.status()
    assert (status.total, status.succeeded, status.failures) == (300, 300, 0)
    wait_until(lambda: not spooled(worker))
    ours = (f"batches:{{{batch.bid}}}", "batches:worker:")
    assert {key for key in map(bytes.decode, store.scan_iter()) if not key.startswith(ours)} <= KNOWN, (
        "a ghost"
    )
