"""What a server refuses for a while: nothing is half done, and it is a store that is away, then counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from celery_batches_notify.errors import CorruptBatch, StoreUnavailable
from celery_batches_notify.store.store import Store
from celery_batches_notify.testing.server import embedded_server
from tests.support.scripts import BID, SUCCEEDED, counts, dead, dump, open_batch
from tests.support.servers import find_server, need, wait_until
from tests.support.store_calls import CALLS, prepare, settled

LITTLE = 1  # bytes; a server holds more than that before it holds anything
BALLAST = 2000


@contextmanager
def configured(client: Redis, name: str, value: object) -> Iterator[None]:
    (before,) = client.config_get(name).values()
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


def another(client: Redis) -> Redis:
    where = client.connection_pool.connection_kwargs
    return Redis(host=where["host"], port=where["port"], retry=Retry(NoBackoff(), 0))


@contextmanager
def out_of_memory(client: Redis) -> Iterator[None]:
    with configured(client, "maxmemory", LITTLE):
        yield


@contextmanager
def replica(client: Redis) -> Iterator[None]:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def replica_without_master(client: Redis) -> Iterator[None]:
    with configured(client, "replica-serve-stale-data", "no"), replica(client):
        yield


@contextmanager
def too_few_replicas(client: Redis) -> Iterator[None]:
    with configured(client, "min-replicas-to-write", 1):
        yield


@contextmanager
def disk_errors(client: Redis) -> Iterator[None]:
    """The server cannot write its snapshot, and takes no writes until it can."""
    with configured(client, "dir", "/proc"), configured(client, "save", "3600 1"):
        with suppress(ResponseError):
            client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok")


@contextmanager
def spinning_script(client: Redis) -> Iterator[None]:
    """Somebody's script does not end; what it has not written yet can be killed."""
    other = another(client)

    def spin() -> None:
        with suppress(RedisError):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=spin)
    with configured(client, "lua-time-limit", 50):
        thread.start()
        wait_until(lambda: is_busy(client))
        try:
            yield
        finally:
            client.script_kill()
            thread.join()
            other.close()


def is_busy(client: Redis) -> bool:
    try:
        client.ping()
    except ResponseError as exc:
        return "BUSY" in str(exc)
    return False


@contextmanager
def no_more_clients(client: Redis) -> Iterator[None]:
    with configured(client, "maxclients", 1):
        yield


@contextmanager
def loading(client: Redis) -> Iterator[None]:
    """The server reads its snapshot again, slowly."""
    try:
        client.config_set("loading-process-events-interval-bytes", 1024)
    except ResponseError:
        pytest.skip("this server answers nobody while it reads a small snapshot")
    client.mset({f"ballast{i}": "x" * 100 for i in range(BALLAST)})
    client.config_set("key-load-delay", 2000)
    where = client.connection_pool.connection_kwargs
    reloading = Redis(host=where["host"], port=where["port"], socket_timeout=None)
    thread = threading.Thread(target=lambda: reloading.execute_command("DEBUG", "RELOAD"))
    thread.start()
    try:
        with another(client) as other:
            wait_until(lambda: is_loading(other))
        yield
    finally:
        thread.join()
        reloading.close()
        client.config_set("key-load-delay", 0)
        client.delete(*(f"ballast{i}" for i in range(BALLAST)))


def is_loading(client: Redis) -> bool:
    try:
        client.get("x")
    except RedisError as exc:
        return "loading" in str(exc)
    return False


Fault = Callable[[Redis], object]
FAULTS: dict[str, Fault] = {
    "OOM": out_of_memory,
    "READONLY": replica,
    "MASTERDOWN": replica_without_master,
    "NOREPLICAS": too_few_replicas,
    "MISCONF": disk_errors,
    "BUSY": spinning_script,
    "max clients": no_more_clients,
    "LOADING": loading,
}


@pytest.fixture(scope="module", params=["valkey", "redis-7", "redis-6.2"])
def any_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of its own: what is done to it here is done to everybody who uses it."""
    binary = find_server(request.param)
    options = ["--enable-debug-command", "local", "--enable-protected-configs", "local"]
    if request.param != "valkey":
        need(request.param, binary)
    if request.param == "redis-6.2":
        options = []
    with embedded_server(*options, binary=binary) as url:
        yield url


@pytest.fixture
def admin(any_server: str) -> Iterator[Redis]:
    """A client that is connected before the fault is there, and never tries twice."""
    client = Redis.from_url(
        any_server, retry=Retry(NoBackoff(), 0), socket_timeout=10, single_connection_client=True
    )
    client.ping()
    yield client
    client.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_refused_to_all_is_a_store_that_is_away_and_counted_afterwards(
    store: Store, admin: Redis, fault: str
) -> None:
    first, second = open_batch(store, 2)
    store.seal_batch(BID)
    before = dump(store)
    store.close()
    with FAULTS[fault](admin):
        for ask in (
            lambda: store.record_outcome(first, SUCCEEDED),
            lambda: store.no_retry.record_outcome(second, dead()),
            lambda: open_batch(store, bid="another-of-these"),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                ask()
            assert caught.type is StoreUnavailable, "no word of a damaged batch"
    wait_until(lambda: counts(store) == (2, 0, 0, 0), what="the end of the fault")
    assert dump(store) == before, "no part of what was refused was done, and no ghost is left"
    assert store.record_outcome(first, SUCCEEDED).word == "counted"
    assert store.record_outcome(second, dead()).word == "counted"
    assert counts(store) == (2, 1, 0, 1)


@pytest.mark.parametrize("name", CALLS)
def test_a_script_that_runs_out_of_memory_is_done_as_a_whole_or_not_at_all(
    store: Store, admin: Redis, name: str
) -> None:
    before, call = CALLS[name]
    prepare(store)
    before(store)
    untouched = settled(store)
    with out_of_memory(admin):
        try:
            call(store)
            refused = False
        except (StoreUnavailable, RedisError):  # `lists` leave the words to the store
            refused = True
            assert settled(store) == untouched
    if refused:
        call(store)
    done = settled(store)
    admin.flushall()
    prepare(store)
    before(store)
    call(store)
    assert done == settled(store)


@pytest.mark.parametrize("part", ["", ":states", ":members", ":outbox"])
def test_a_damaged_batch_is_told_from_a_store_that_is_away(store: Store, part: str) -> None:
    (member,) = open_batch(store, 1)
    store.seal_batch(BID)
    key = store.keys.batch(BID) + part
    store.client.delete(key)
    if part in ("", ":outbox"):
        store.client.setex(key, 60, "no hash")
    else:
        store.client.hset(key, "no", "string")
        store.client.expire(key, 60)
    with pytest.raises(CorruptBatch):
        store.record_outcome(member, SUCCEEDED)


def idle_connections(store: Store) -> set[int]:
    """Two connections that nobody uses just now, by the ids that the server gives them."""
    taken = [store.client.client() for _ in range(2)]  # each takes one for itself
    ids = {client.client_id() for client in taken}
    for client in taken:
        client.close()
    return ids


@pytest.mark.parametrize(
    ("fault", "words"), [(replica, "read only replica"), (too_few_replicas, "NOREPLICAS|good replicas")]
)
def test_a_connection_to_what_was_the_master_is_not_used_again(
    store: Store, admin: Redis, fault: Fault, words: str
) -> None:
    (member,) = open_batch(store, 1)
    before = idle_connections(store)
    with fault(admin), pytest.raises(StoreUnavailable, match=words):
        store.record_outcome(member, SUCCEEDED)
    assert not before & idle_connections(store)
