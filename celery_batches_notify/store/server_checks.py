"""Start-up checks for a store that could lose batches, or that they cannot work with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.store.acl_checks import CHANNELS, find_denied
from celery_batches_notify.store.client import is_cluster
from celery_batches_notify.store.errors import store_errors
from celery_batches_notify.store.findings import Finding
from celery_batches_notify.store.retries import FULL_SHARE
from celery_batches_notify.store.store import Store

OLDEST = (6, 2)
SKEW_SECONDS = 5

Info = Mapping[str, Any]


def check_store(store: Store, clock: Callable[[], float] = time.time) -> list[Finding]:
    """Check the server and the rights of its user, without changing anything.

    A store that cannot be used is a finding too, not an error.

    Args:
        store: The batches' store.
        clock: This host's time in seconds, to compare with the server's.
    """
    found: list[Finding] = []
    try:
        found += _check_rights(store)
        found += _check_clock(store, clock)
        for info in _read_infos(store):
            found += [finding for check in _SERVER_CHECKS for finding in check(info)]
            found += _check_kind(store, info)
    except StoreUnavailable as exc:
        if not (found and isinstance(exc.__cause__, NoPermissionError)):
            found.append(_error("store", str(exc)))
    return list(dict.fromkeys(found))  # the servers of a Cluster are alike


def _read_infos(store: Store) -> list[Info]:
    client: Any = store.client
    with store_errors(store.settings):
        if is_cluster(client):
            return list(client.info(target_nodes=RedisCluster.PRIMARIES).values())
        return [client.info()]


def _check_rights(store: Store) -> Iterator[Finding]:
    with store_errors(store.settings):
        denied = set(find_denied(store.client, store.keys))
    if needed := sorted(denied - {*CHANNELS, "INFO"}):
        yield _error(
            "rights",
            f"the store's user may not use {', '.join(needed)} on keys of batches, so batches do not work: "
            f"give it the rights on the page “Run in production”, with ~{store.settings.prefix}:*",
        )
    if channels := sorted(denied & set(CHANNELS)):
        yield _warning(
            "channels",
            f"the store's user may not use {', '.join(channels)} on channels of batches: the counts are "
            "right, but followers of a batch are woken only every 5 s: give the user &batch-*",
        )
    if "INFO" in denied:
        yield _warning(
            "rights", "the store's user may not use INFO, so the server's state is not checked: add +info"
        )


def _check_clock(store: Store, clock: Callable[[], float]) -> Iterator[Finding]:
    before = clock()
    with store_errors(store.settings):
        seconds, microseconds = store.client.time()
    server = seconds + microseconds / 1e6
    skew = max(before - server, 0) + min(clock() - server, 0)  # the round trip does not count as skew
    if abs(skew) > SKEW_SECONDS:
        word = "ahead of" if skew > 0 else "behind"
        yield _warning(
            "clock",
            f"this host's clock is {abs(skew):.0f} s {word} the store's. Batches use only the store's, so "
            "counts and due times are right; but log lines do not match the times of batches, and Celery's "
            "own eta and expires use this host's: set both with NTP",
        )


def _check_kind(store: Store, info: Info) -> Iterator[Finding]:
    if info.get("redis_mode") == "cluster" and not is_cluster(store.client):
        yield _error(
            "cluster",
            'the store is a node of a Redis Cluster: add {"cluster": True} to batches_backend_options',
        )


def _check_version(info: Info) -> Iterator[Finding]:
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < OLDEST:
        yield _error("version", f"the store is Redis {version}, and batches need 6.2 or newer, or Valkey")


def _check_eviction(info: Info) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield _warning(
            "eviction",
            f"the store's maxmemory-policy is {policy}, so it drops batches when its memory is full and "
            "they never end: set it to noeviction, or give batches a Redis of their own",
        )


def _check_memory(info: Info) -> Iterator[Finding]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > FULL_SHARE * most:
        yield _warning(
            "memory",
            f"the store has used {used / most:.0%} of its maxmemory; when it is full, no batch can be made "
            "and no outcome counted: raise maxmemory, or keep batches for less long (batches_linger)",
        )


def _check_persistence(info: Info) -> Iterator[Finding]:
    if info.get("loading"):
        return
    if not info.get("aof_enabled", 1):
        yield _warning(
            "persistence",
            "the store keeps no append-only file: a restart loses what came since its last snapshot, or "
            "every batch if it takes none, and those that ran never end: set appendonly yes",
        )
    if "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")):
        yield _error(
            "persistence",
            "the store could not write to its disk and may refuse every change: see its log, make room",
        )


def _check_replication(info: Info) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield _error(
            "replica",
            "the store is a replica, which takes no changes: name the master in batches_backend_url, or the "
            "sentinels (sentinel://…), which know who it is",
        )
        return
    good = info.get("min_slaves_good_slaves")
    if good is None and info.get("connected_slaves"):
        yield _warning(
            "replicas",
            "the store has replicas and does not wait for them: an old master that is cut off goes on "
            "counting what is lost after the failover, and batches are late: set min-replicas-to-write 1",
        )
    if good == 0:
        yield _error(
            "replicas",
            "the store refuses changes, because fewer replicas follow it than min-replicas-to-write asks for",
        )


_SERVER_CHECKS: tuple[Callable[[Info], Iterator[Finding]], ...] = (
    _check_version,
    _check_eviction,
    _check_memory,
    _check_persistence,
    _check_replication,
)


def _error(subject: str, words: str) -> Finding:
    return Finding(severity="error", subject=subject, words=words)


def _warning(subject: str, words: str) -> Finding:
    return Finding(severity="warning", subject=subject, words=words)
