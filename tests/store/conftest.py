"""A store on each server that is promised to work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from servers import find_server, need

from celery_batches_notify.demo.valkey import embedded_server
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.store import Store


@pytest.fixture(scope="session", params=["valkey", "redis-7", "redis-6.2"])
def any_server(request: pytest.FixtureRequest) -> Iterator[str]:
    binary = find_server(request.param)
    if request.param != "valkey":
        need(request.param, binary)
    with embedded_server(binary=binary) as url:
        yield url


@pytest.fixture
def store(any_server: str) -> Iterator[Store]:
    app = Celery(set_as_current=False)
    app.conf.update(batches_backend_url=any_server, batches_failures_kept=3)
    store = Store(Settings.from_app(app))
    store.client.flushall()
    yield store
    immortal = [key for key in store.client.scan_iter() if store.client.ttl(key) == -1]
    store.client.close()
    assert not immortal, f"keys without a time to live: {immortal}"
