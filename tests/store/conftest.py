"""A store on each server that is promised to work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery

from celery_batches_notify import Batches
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.store import Store
from tests.support.servers import PATIENT, server_named

pytest.register_assert_rewrite("both", "compared")  # so that a failed comparison shows both sides

from tests.store.compared import Surroundings  # noqa: E402
from tests.store.model_of_batches import FAILURES_KEPT, RETRIES_KEPT  # noqa: E402
from tests.store.whole_store import Ear, WatchingClient  # noqa: E402


@pytest.fixture(scope="session", params=["valkey", "redis-7", "redis-6.2"])
def any_server(request: pytest.FixtureRequest) -> Iterator[str]:
    with server_named(request.param) as url:
        yield url


@pytest.fixture
def store(any_server: str) -> Iterator[Store]:
    app = Celery(set_as_current=False)
    app.conf.update(batches_backend_url=any_server, batches_failures_kept=3, batches_backend_options=PATIENT)
    store = Store(Settings.from_app(app))
    store.client.flushall()
    yield store
    immortal = [key for key in store.client.scan_iter() if store.client.ttl(key) == -1]
    store.client.close()
    assert not immortal, f"keys without a time to live: {immortal}"


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture(scope="module")
def around(server_url: str) -> Iterator[Surroundings]:
    """An app whose store keeps so little that its limits are met, and is watched."""
    app = Celery("machine", broker="memory://", backend=None, set_as_current=False)
    kept = {"batches_failures_kept": FAILURES_KEPT, "batches_retry_kept": RETRIES_KEPT}
    app.conf.update(batches_backend_url=server_url, task_default_queue="machine", **kept)
    Batches(app)
    app.task(told, name="told", shared=False)
    client = WatchingClient.from_url(server_url, socket_timeout=None)
    app._batches_extension.engine.store.__dict__["client"] = client
    ear = Ear(client)
    yield Surroundings(app=app, client=client, ear=ear)
    ear.close()
    app.close()
    client.flushall()
    client.close()
