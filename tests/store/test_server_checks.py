"""Each finding of the start-up checks, on a server that is really so."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from celery import Celery
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from celery_batches_notify.settings import Settings
from celery_batches_notify.store.acl_checks import ON_KEYS, OTHERS, SCRIPTS, find_denied
from celery_batches_notify.store.findings import Finding
from celery_batches_notify.store.keys import Keys
from celery_batches_notify.store.server_checks import check_store
from celery_batches_notify.store.store import Store
from celery_batches_notify.testing.server import embedded_server, find_free_port
from tests.support.acl import url_as
from tests.support.cut_proxy import cut_proxy
from tests.support.scripts import BID
from tests.support.servers import PATIENT, wait_until
from tests.support.store_calls import CALLS, prepare
from tests.support.topologies import HAS_CLUSTER, nodes

FULL = ("--save", "", "--appendonly", "yes")


@contextmanager
def store_at(url: str, **conf: object) -> Iterator[Store]:
    app = Celery(set_as_current=False)
    app.conf.update(**{"batches_backend_url": url, "batches_backend_options": PATIENT, **conf})
    store = Store(Settings.from_app(app))
    try:
        yield store
    finally:
        store.close()


def found(url: str, **conf: object) -> dict[str, Finding]:
    with store_at(url, **conf) as store:
        return {finding.subject: finding for finding in check_store(store)}


@pytest.fixture(scope="module")
def good() -> Iterator[str]:
    """A server as it should be."""
    with embedded_server(*FULL) as url:
        yield url


@pytest.fixture
def admin(good: str) -> Iterator[Redis]:
    with Redis.from_url(good, decode_responses=True) as client:
        before = client.config_get()
        yield client
        for name in ("maxmemory", "maxmemory-policy", "min-replicas-to-write", "appendonly"):
            client.config_set(name, before[name])


def test_of_a_server_as_it_should_be_there_is_nothing_to_say(good: str) -> None:
    assert not found(good)
    assert not found(url_as(good)), "nor of the user on the page"


def test_nothing_is_changed_by_a_check(good: str, admin: Redis) -> None:
    before = admin.dbsize()
    found(good)
    assert admin.dbsize() == before


def test_an_eviction_policy_that_drops_batches(good: str, admin: Redis) -> None:
    admin.config_set("maxmemory-policy", "volatile-lru")
    finding = found(good)["eviction"]
    assert finding.severity == "warning"
    assert "volatile-lru" in finding.words and "set it to noeviction" in finding.words


def test_a_memory_that_is_nearly_full(good: str, admin: Redis) -> None:
    admin.config_set("maxmemory", int(admin.info("memory")["used_memory"] * 1.02))
    assert "raise maxmemory" in found(good)["memory"].words


def test_a_server_without_an_append_only_file(good: str, admin: Redis) -> None:
    admin.config_set("appendonly", "no")
    assert "set appendonly yes" in found(good)["persistence"].words


def test_replicas_that_it_does_not_wait_for_and_one_that_is_named_as_the_store(good: str) -> None:
    with nodes(2) as (master, replica):
        replica.options = [*replica.options, "--replicaof", f"127.0.0.1 {master.port}"]
        master.start()
        replica.start()
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", what="the replica")
        urls = [f"redis://127.0.0.1:{node.port}" for node in (master, replica)]
        assert "min-replicas-to-write 1" in found(urls[0])["replicas"].words
        finding = found(urls[1])["replica"]
        assert finding.severity == "error" and "name the master" in finding.words
        master.command("CONFIG", "SET", "min-replicas-to-write", 1)
        wait_until(lambda: "replicas" not in found(urls[0]), what="the master's word that it has a replica")
        replica.stop()
        wait_until(lambda: master.info("replication")["connected_slaves"] == 0, what="the replica's end")
        finding = found(urls[0])["replicas"]
        assert finding.severity == "error" and "refuses changes" in finding.words


def test_clocks_that_differ(good: str) -> None:
    with store_at(good) as store:
        (ahead,) = check_store(store, lambda: time.time() + 60)
        (behind,) = check_store(store, lambda: time.time() - 60)
    assert re.search(r"clock is 6\d s ahead", ahead.words)
    assert re.search(r"clock is (5\d|60) s behind", behind.words)
    assert "counts and due times are right" in ahead.words


def test_what_an_answer_takes_is_no_difference_of_clocks(good: str) -> None:
    with store_at(good) as store:
        asked, answered = time.time() - 60, time.time() + 60
        assert not list(check_store(store, iter([asked, answered]).__next__))


def test_a_store_that_is_away_or_refuses_its_user(good: str) -> None:
    assert "does not answer" in found("redis://127.0.0.1:1")["store"].words
    refused = found(good.replace("redis://", "redis://nobody:hunter2@"))["store"]
    assert refused.severity == "error" and "refused the user" in refused.words
    assert "hunter2" not in refused.words


def test_a_node_of_a_cluster_that_is_asked_alone_and_the_other_way_round(good: str) -> None:
    with ExitStack() as stack:
        (node,) = stack.enter_context(nodes(1, "--cluster-enabled", "yes"))
        node.options = [*node.options, "--cluster-port", str(find_free_port())]
        node.start()
        assert found(f"redis://127.0.0.1:{node.port}")["cluster"].severity == "error"
    if not HAS_CLUSTER:
        return
    options = {"batches_backend_options": {"cluster": True}}
    assert 'take "cluster" out' in found(good.rpartition("/")[0], **options)["store"].words


def test_an_old_server() -> None:
    from celery_batches_notify.store.server_checks import _check_version

    (finding,) = _check_version({"redis_version": "6.0.16"})
    assert "6.2 or newer" in finding.words
    assert not list(_check_version({"redis_version": "6.2.0"}))


def test_a_disk_that_cannot_be_written_to() -> None:
    from celery_batches_notify.store.server_checks import _check_persistence

    (finding,) = _check_persistence({"aof_enabled": 1, "aof_last_write_status": "err"})
    assert finding.severity == "error"


# -- rights ---------------------------------------------------------------------------------------


def test_a_check_that_loses_its_connection_runs_no_command(good: str, admin: Redis) -> None:
    """Over the next connection, which is outside MULTI, they would be run."""
    before = admin.dbsize()
    with cut_proxy(good, seed=1) as (proxy, url), Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
        proxy.misbehave("cut_reply", share=0.05)
        for _ in range(30):
            with suppress(RedisConnectionError):
                find_denied(client, Keys("batches"))
    assert proxy.struck
    assert admin.dbsize() == before


COMMANDS = (*ON_KEYS, *(name for name, _ in SCRIPTS), *(words[0] for words in OTHERS), "MULTI")
FOREIGN = {"FLUSHALL", "PING", "CLIENT|SETINFO", "CLIENT", "HELLO", "EXPIRE", "INFO"}  # the tests' own
CHANNELS = ("PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE")


@pytest.mark.parametrize("command", [*COMMANDS, *CHANNELS])
def test_a_command_that_the_user_may_not_give_is_named(any_server: str, command: str) -> None:
    url = url_as(any_server)
    with Redis.from_url(any_server) as client:
        client.execute_command("ACL", "SETUSER", "batches", f"-{command.lower()}")
    try:
        findings = found(url)
        subject = "channels" if command in CHANNELS else "rights"
        assert command in findings[subject].words
        assert (findings[subject].severity == "error") == (command in COMMANDS and command != "INFO")
    finally:
        url_as(any_server)


def test_keys_and_channels_of_others_are_denied(any_server: str) -> None:
    url = url_as(any_server)
    denied = found(url, batches_prefix="others")["rights"].words
    assert "HSET" in denied and "ZADD" in denied and "~others:*" in denied
    with Redis.from_url(any_server) as client:
        client.execute_command("ACL", "SETUSER", "batches", "resetchannels")
    assert "&batch-*" in found(url)["channels"].words
    url_as(any_server)


def read_everything(store: Store) -> None:
    list(store.read_statuses([each.bid for each in store.list_outlines(standings=True)]))
    store.count_listed()
    list(store.walk_live())
    list(store.walk_unlisted())
    store.read_cancelled()
    store.is_cancelled(BID)
    store.read_progress(BID)
    store.read_deliveries(BID)
    store.read_unsent_retries(BID)
    list(store.walk_members(BID, 4))
    store.delete_batch(BID)


def test_the_commands_that_are_checked_are_those_that_are_used(any_server: str) -> None:
    with store_at(any_server) as store:
        admin = store.client
        admin.flushall()
        before = admin.info("commandstats")
        for prepared, call in CALLS.values():
            prepare(store)
            prepared(store)
            call(store)
            admin.flushall()
        store.settings = dataclasses.replace(store.settings, failures_kept=1)  # so one has to make room
        prepare(store)
        read_everything(store)
        after = admin.info("commandstats")
    used = {
        name.removeprefix("cmdstat_").upper()
        for name, stats in after.items()
        if stats["calls"] > before.get(name, {"calls": 0})["calls"]
    }
    assert used - FOREIGN == {*COMMANDS, "PUBLISH", "EXEC"} - FOREIGN


def test_a_worker_warns_of_each_finding_once(
    any_server: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery_batches_notify import Batches
    from celery_batches_notify.extension import warn_about_surroundings

    monkeypatch.setattr(logging.getLogger("celery_batches_notify"), "propagate", True)
    app = Celery(set_as_current=False, broker="memory://")
    app.conf.update(batches_backend_url=any_server)
    with caplog.at_level("WARNING"):
        warn_about_surroundings(app, Batches(app).engine.store)
    app._batches_extension.reset()
    (told,) = [record for record in caplog.records if record.getMessage().startswith("batches: ")]
    assert told.batches_subject == "persistence"
