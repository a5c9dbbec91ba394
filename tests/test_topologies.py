"""Batches in stores like those of production, with real workers: Cluster, Sentinel, TLS and a socket."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery, chain, chord, group
from kombu import pools
from redis import Redis
from redis.cluster import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celery_batches_notify import Batch, Batches, NoSuchBatch, Progress, StoreUnavailable
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.metrics.collector import sum_live
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.server_checks import check_store
from tests.projects.proj_tasks import declare_tasks
from tests.support.servers import running_worker, wait_until
from tests.support.topologies import (
    HAS_CLUSTER,
    PASSWORD,
    Guarded,
    Node,
    cluster,
    has_all,
    migrating,
    owner_of,
    sentinel,
    tls,
    unix_socket,
)

SCHEMES = {"cluster": "redis:", "sentinel": "sentinel:", "tls": "rediss:", "socket": "unix:"}
FORMS = tuple(SCHEMES)


@dataclass(kw_only=True)
class Form:
    """One kind of store: its configuration, its servers, and a broker of its own."""

    url: str
    broker: str = "memory://"
    options: dict[str, Any] = field(default_factory=dict)
    servers: Any = None


@pytest.fixture(scope="module")
def cluster_form(server_url: str) -> Iterator[Form]:
    with cluster() as made:
        urls = ";".join(f"redis://127.0.0.1:{node.port}" for node in made[:2])
        yield Form(url=urls, options={"cluster": True}, servers=made, broker=f"{server_url[:-1]}1")


@pytest.fixture(scope="module")
def sentinel_form(server_url: str) -> Iterator[Form]:
    with sentinel() as guarded:
        options = {"master_name": "mymaster", "password": PASSWORD}
        yield Form(url=guarded.url, options=options, servers=guarded, broker=f"{server_url[:-1]}2")


@pytest.fixture(scope="module")
def tls_form(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Iterator[Form]:
    with tls(tmp_path_factory.mktemp("tls")) as secured:
        yield Form(url=secured.url, options=dict(secured.options), broker=f"{server_url[:-1]}3")


@pytest.fixture(scope="module")
def socket_form(server_url: str) -> Iterator[Form]:
    with unix_socket() as url:
        yield Form(url=url, broker=f"{server_url[:-1]}4")


@pytest.fixture(scope="module", params=FORMS)
def store_form(request: pytest.FixtureRequest) -> Form:
    made: Form = request.getfixturevalue(f"{request.param}_form")
    return made


@contextmanager
def app_in(store: Form, **conf: object) -> Iterator[Celery]:
    """Make a producer with batches in this store."""
    app = Celery("producer", broker=store.broker, set_as_current=False)
    app.conf.update(batches_backend_url=store.url, batches_backend_options=store.options, **conf)
    Batches(app)
    declare_tasks(app)
    try:
        yield app
    finally:
        app.close()
        app._batches_extension.reset()


@contextmanager
def worker_in(store: Form, pool: str = "prefork") -> Iterator[Any]:
    environment = {
        "BATCHES_TEST_STORE": store.url,
        "BATCHES_TEST_STORE_OPTIONS": json.dumps(store.options),
        "BATCHES_TEST_BACKEND": store.broker,
    }
    with running_worker(store.broker, pool, **environment) as process:
        yield process


@pytest.fixture(scope="module")
def busy(store_form: Form) -> Iterator[Celery]:
    """Run a producer and a worker on one of the stores."""
    with worker_in(store_form), app_in(store_form, result_backend=store_form.broker) as app:
        yield app


def ended(batch: Batch, seconds: float = 30) -> BatchStatus:
    return batch.join(timeout=seconds)


@contextmanager
def followed_to_the_end(batch: Batch) -> Iterator[None]:
    """Follow a batch beside the block, from before it, to the end of the batch."""
    seen: list[Progress] = []
    begun = threading.Event()

    def follow() -> None:
        for progress in batch.follow():
            seen.append(progress)
            begun.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(30)
    yield
    thread.join(30)
    assert seen[-1].finished


def notes(app: Celery) -> list[str]:
    with Redis.from_url(app.conf.broker_url, decode_responses=True) as client:
        return client.lrange("notes", 0, -1)


# -- all that a batch can do ------------------------------------------------------------------------


def test_members_are_counted_and_callbacks_called(busy: Celery) -> None:
    task = busy.tasks
    batch = Batch("rows", tags=["a"], app=busy).on("finish", task["proj.callback"].s("told"))
    with batch:
        for i in range(20):
            task["proj.ok"].delay(i)
        task["proj.succeed_at"].delay(2)
        task["proj.fail"].delay()
    status = ended(batch)
    assert (status.total, status.succeeded, status.dead, status.state) == (22, 21, 1, "dead")
    assert status.failure_info[0].error_class == "ValueError"
    wait_until(lambda: f"callback {batch.bid} told dead 22 21" in notes(busy), what="the callback")
    wait_until(lambda: batch.status().callbacks[0].state == "delivered", what="the delivery")


def test_a_canvas_belongs_to_its_batch(busy: Celery) -> None:
    ok = busy.tasks["proj.ok"]
    with Batch(app=busy) as batch:
        chain(ok.s(1), ok.s(), ok.s()).delay()
        chord(group(ok.si(i) for i in range(3)), ok.s()).delay()
    assert (ended(batch).total, ended(batch).state) == (7, "success")


def test_batches_lie_in_batches(busy: Celery) -> None:
    with Batch("parent", app=busy) as batch:
        busy.tasks["proj.nest"].delay(2, 2)
    status = ended(batch)
    assert (status.total, status.children, status.state) == (3, 2, "success")


def test_dead_members_are_sent_again(busy: Celery) -> None:
    with Batch(app=busy) as batch:
        busy.tasks["proj.fail_once"].delay(batch.bid)
    assert ended(batch).state == "dead"
    assert batch.retry() == 1
    wait_until(lambda: batch.status().state == "success", what="the retry")


def test_a_cancelled_batch_is_discarded(busy: Celery) -> None:
    batch = Batch(app=busy, keep_open=True)
    batch.add(busy.tasks["proj.ok"].s())
    batch.cancel()
    engine = busy._batches_extension.engine
    assert engine.store.read_cancelled()[batch.bid] is False

    def is_known() -> bool:
        batch.add(busy.tasks["proj.ok"].s())
        time.sleep(0.2)
        return batch.status().dead > 0

    wait_until(is_known, what="the worker's reading of the cancel")
    with batch:
        busy.tasks["proj.slow"].delay(30)
    batch.seal()
    assert ended(batch).state == "cancelled"


def test_it_is_followed_listed_and_deleted(busy: Celery) -> None:
    batch = Batch("followed", tags=["listed"], app=busy)
    with batch:
        for _ in range(4):
            busy.tasks["proj.slow"].delay(0.2)
    readings = list(batch.follow())
    assert readings[-1].finished and readings[-1].succeeded == 4
    assert [b.bid for b in Batch.all(tag="listed", app=busy)] == [batch.bid]
    assert batch.delete()
    with pytest.raises(NoSuchBatch):
        batch.status()
    assert not list(Batch.all(tag="listed", app=busy))


def test_the_tokens_reach_followers(busy: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_batches_notify.store.followed.REREAD_SECONDS", 600.0)
    batch = Batch(app=busy, keep_open=True)
    batch.add(*(busy.tasks["proj.ok"].s(i) for i in range(3)))
    readings = iter(batch.follow())
    assert not next(readings).finished
    batch.add(busy.tasks["proj.ok"].s(9))
    batch.seal()
    assert list(readings)[-1].finished


def test_what_was_left_behind_is_swept(busy: Celery) -> None:
    """The last report comes from a process that does not publish, so the sweeper must."""
    task, store = busy.tasks["proj.ok"], busy._batches_extension.engine.store
    batch = Batch(app=busy, keep_open=True).on("success", busy.tasks["proj.callback"].s("swept"))
    (result,) = batch.add(task.s().set(queue="nobody"))
    store.seal_batch(batch.bid)
    member = Membership(bid=batch.bid, index=0, task_id=result.id)
    assert store.record_outcome(member, Outcome(state=State.SUCCEEDED)).entries == ["success:0"]
    store.client.hset(store.keys.part(batch.bid, "outbox"), "success:0", "due 0 1")
    store.client.hset(store.keys.batch(batch.bid), "next_due", 1)
    wait_until(lambda: f"callback {batch.bid} swept success 1 1" in notes(busy), what="the sweep")


def test_only_one_process_sweeps(busy: Celery) -> None:
    store = busy._batches_extension.engine.store
    lock = store.sweep_lock(10)

    def is_refused() -> bool:
        if not lock.hold():
            return True
        lock.release()  # the worker was late
        return False

    wait_until(is_refused, what="a lock that the worker holds")


def test_results_are_read(busy: Celery) -> None:
    with Batch(app=busy) as batch:
        for i in range(3):
            busy.tasks["proj.ok"].delay(i)
    ended(batch)
    assert sorted(result.result for result in Batch.get(batch.bid, app=busy).status().results()) == [0, 1, 2]


def test_every_key_there_has_a_time_to_live(busy: Celery, store_form: Form) -> None:
    client = busy._batches_extension.engine.store.client
    names = list(client.scan_iter("batches*"))
    assert names and not [name for name in names if client.ttl(name) == -1]


def test_threads_and_forks_share_a_client(busy: Celery) -> None:
    """A forked child neither uses nor closes inherited connections; threads share them."""
    store = busy._batches_extension.engine.store
    batch = Batch(app=busy, keep_open=True)
    batch.add(busy.tasks["proj.ok"].s().set(queue="nobody"))
    stop = threading.Event()
    told: list[str] = []

    def read() -> None:
        while not stop.is_set():
            told.append(store.read_status(batch.bid).bid)

    def answer(to: Connection) -> None:
        faulthandler.dump_traceback_later(30)
        to.send(store.read_status(batch.bid).bid)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    # The first child would take what another test of this process left waiting for its broker's answer, and
    # the others would wait for ever: kombu reads inherited connections before it closes them.
    pools.reset()
    context = multiprocessing.get_context("fork")
    children = []
    try:
        for _ in range(4):
            receiving, sending = context.Pipe(duplex=False)
            child = context.Process(target=answer, args=(sending,))
            child.start()
            sending.close()
            children.append((child, receiving))
        for child, receiving in children:
            if not receiving.poll(40):
                child.kill()
                pytest.fail("a fork's child does not answer")
            assert receiving.recv() == batch.bid
            child.join(10)
            assert child.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert set(told) == {batch.bid}


# -- Cluster: slots move, nodes go -----------------------------------------------------------------


def test_the_lists_and_batches_lie_on_several_nodes(cluster_form: Form) -> None:
    with app_in(cluster_form) as app:
        for _ in range(12):
            Batch(app=app, keep_open=True).add(app.tasks["proj.ok"].s().set(queue="nobody"))
        assert len(list(Batch.all(app=app))) >= 12
        assert len(list(app._batches_extension.engine.store.walk_live())) >= 12
    assert all(node.command("DBSIZE") for node in cluster_form.servers)


def test_counters_and_live_batches_of_all_nodes_are_summed_once(cluster_form: Form) -> None:
    with app_in(cluster_form, batches_prefix="summed") as app:
        engine = app._batches_extension.engine
        for _ in range(12):
            Batch(app=app, keep_open=True).add(app.tasks["proj.ok"].s().set(queue="nobody"))
        for _ in range(2):  # the second finds nothing new
            engine.sweeper.sweep()
            assert engine.store.read_totals()["created"] == 12
        live = sum_live(engine.store, 100)
    assert (live.states.total(), live.pending) == (12, 12)


def test_a_batch_ends_while_its_slot_moves(cluster_form: Form) -> None:
    with app_in(cluster_form) as app, worker_in(cluster_form, "threads"):
        batch = Batch(app=app).on("success", app.tasks["proj.callback"].s("moved"))
        with batch:
            for _ in range(30):
                app.tasks["proj.slow"].delay(0.1)
        slot = key_slot(batch.bid.encode())
        with migrating(cluster_form.servers, slot) as (source, target):
            wait_until(lambda: source.command("CLUSTER", "COUNTKEYSINSLOT", slot), what="keys")
            engine = app._batches_extension.engine.store
            with pytest.raises(StoreUnavailable):  # a script names keys that exist and keys that do not
                for _ in range(3):
                    engine.renew_batch(batch.bid)
        assert owner_of(cluster_form.servers, slot) is target
        assert ended(batch).succeeded == 30
        wait_until(lambda: f"callback {batch.bid} moved success 30 30" in notes(app), what="the callback")


def test_a_worker_marks_what_it_begins_where_its_key_has_moved_to(cluster_form: Form) -> None:
    with app_in(cluster_form) as app:
        store = app._batches_extension.engine.store
        wire, key = store.one_way_connection("moved"), store.keys.worker("moved")
        wire.open()
        assert wire.send(b"before", b"{}")
        wait_until(lambda: store.client.hexists(key, "before"), what="the first mark")
        with migrating(cluster_form.servers, key_slot(key.encode())):
            pass
        wire.check()  # as each beat does
        wire.open()
        assert wire.send(b"after", b"{}")
        wait_until(lambda: store.client.hexists(key, "after"), what="the mark at the new place")
        with migrating(cluster_form.servers, key_slot(key.encode())):
            pass
        assert wire.replace(b"note", b"{}"), "no beat would write it again"
        assert store.client.hexists(key, "note")
        wire.close()


def test_a_batch_ends_though_a_master_was_killed_and_started_again(cluster_form: Form) -> None:
    with app_in(cluster_form) as app, worker_in(cluster_form, "prefork"):
        batch = Batch(app=app)
        with batch:
            for _ in range(4):
                app.tasks["proj.slow"].delay(2)
        node: Node = owner_of(cluster_form.servers, key_slot(batch.bid.encode()))
        with followed_to_the_end(batch):
            node.kill()
            with pytest.raises(StoreUnavailable, match=r"does not answer|refused"):
                batch.status()
            node.start()
            wait_until(lambda: reads(batch), what="the node's return")
            assert ended(batch).succeeded == 4


def reads(batch: Batch) -> bool:
    try:
        return batch.status().total == 4
    except StoreUnavailable:
        return False


@pytest.mark.skipif(not HAS_CLUSTER, reason="this redis-py has no Cluster that batches can use")
def test_a_cluster_that_is_away_is_a_store_that_is_away(server_url: str) -> None:
    away = Form(url="redis://127.0.0.1:1;redis://127.0.0.1:2", options={"cluster": True})
    with app_in(away) as app, pytest.raises(StoreUnavailable, match="does not answer"):
        Batch.get("0123456789", app=app)


@pytest.mark.skipif(not HAS_CLUSTER, reason="this redis-py has no Cluster that batches can use")
def test_a_plain_server_asked_as_a_cluster_says_what_to_take_out(server_url: str) -> None:
    plain = Form(url=server_url, options={"cluster": True})
    with app_in(plain) as app, pytest.raises(StoreUnavailable, match='take "cluster" out'):
        Batch.get("0123456789", app=app)


def test_a_clusters_node_asked_as_a_plain_server_says_what_to_add(cluster_form: Form) -> None:
    plain = Form(url=cluster_form.url.partition(";")[0])
    with app_in(plain) as app, pytest.raises(StoreUnavailable, match=r"add \{.cluster.: True\}"):
        for bid in ("0123456789", "1123456789", "2123456789", "3123456789", "4123456789", "5123456789"):
            Batch("x", app=app, keep_open=True).add(app.tasks["proj.ok"].s())
            assert bid


# -- Sentinel: the master goes ----------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_a_batch_ends_on_the_replica_that_became_the_master(
    sentinel_form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_batches_notify.store.followed.AWAY_SECONDS", 120.0)  # as long as it may take
    guarded: Guarded = sentinel_form.servers
    with app_in(sentinel_form) as app, worker_in(sentinel_form, "prefork"):
        batch = Batch(app=app).on("success", app.tasks["proj.callback"].s("followed"))
        with batch:
            for _ in range(2):
                app.tasks["proj.slow"].delay(3)
        old = guarded.master()
        (replica,) = (node for node in guarded.servers if node is not old)
        with replica.client() as behind, old.client() as ahead:  # every counted outcome must survive
            wait_until(lambda: has_all(behind, ahead), what="the replica's last write")
        with followed_to_the_end(batch):
            old.kill()
            # A failover comes 30 s after a stall.
            wait_until(lambda: guarded.master() is not old, seconds=75, what="the failover")
            assert ended(batch).succeeded == 2
        wait_until(lambda: f"callback {batch.bid} followed success 2 2" in notes(app), what="the callback")
        old.start()
        wait_until(lambda: is_replica(old), seconds=75, what="the old master's return")


def is_replica(node: Node) -> bool:
    # A sentinel that makes it one closes its connections.
    with suppress(RedisConnectionError, RedisTimeoutError):
        return bool(node.info("replication")["role"] == "slave")
    return False


def test_no_sentinel_and_no_such_master_are_a_store_that_is_away(sentinel_form: Form) -> None:
    away = Form(url="sentinel://127.0.0.1:1;sentinel://127.0.0.1:2", options={"master_name": "mymaster"})
    other = Form(url=sentinel_form.url, options={"master_name": "other", "password": PASSWORD})
    for store in (away, other):
        with app_in(store) as app, pytest.raises(StoreUnavailable, match="No master found"):
            Batch.get("0123456789", app=app)


def test_the_password_may_stand_in_the_url_of_the_first_sentinel(sentinel_form: Form) -> None:
    url = sentinel_form.url.replace("://", f"://:{quote(PASSWORD, safe='')}@", 1)
    with app_in(Form(url=url, options={"master_name": "mymaster"})) as app:
        assert list(Batch.all(app=app)) is not None


# -- what workers check at their start ---------------------------------------------------------------


def test_the_start_up_checks_say_of_each_store_what_is_so(store_form: Form) -> None:
    expected = {"sentinel": {"replicas"}, "socket": {"persistence"}, "tls": {"persistence"}}
    with app_in(store_form) as app:
        found = {finding.subject for finding in check_store(app._batches_extension.engine.store)}
    (kind,) = [name for name in FORMS if store_form.url.startswith(SCHEMES[name])]
    assert found == expected.get(kind, set())
