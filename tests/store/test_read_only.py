"""A store that has become a replica while many threads report to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.membership import Membership
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.store import Store
from celery_batches_notify.testing.server import embedded_server
from tests.support.scripts import BID, SUCCEEDED, open_batch
from tests.support.servers import wait_until


@pytest.fixture
def store() -> Iterator[Store]:
    with embedded_server() as url:
        app = Celery(set_as_current=False)
        app.conf.batches_backend_url = url
        store = Store(Settings.from_app(app))
        yield store
        store.close()


def test_a_thread_that_meets_a_replica_closes_no_connection_that_another_one_uses(store: Store) -> None:
    """Or that other one's report ends in an error of redis-py's own, which nobody expects."""
    members = open_batch(store, 400)
    store.seal_batch(BID)
    met: list[BaseException] = []

    def report(some: list[Membership]) -> None:
        for member in some:
            while True:
                try:
                    store.record_outcome(member, SUCCEEDED)
                except StoreUnavailable as exc:
                    met.append(exc)
                except Exception as exc:
                    met.append(exc)
                    return
                else:
                    break

    threads = [threading.Thread(target=report, args=(members[n::16],)) for n in range(16)]
    with Redis.from_url(store.settings.backend_url) as admin:
        admin.replicaof("127.0.0.1", 1)
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(met) > 2_000, what="refusals")
        finally:
            admin.replicaof("NO", "ONE")
            for thread in threads:
                thread.join()
    assert [exc for exc in met if not isinstance(exc, StoreUnavailable)] == []
    assert store.read_status(BID).succeeded == 400
