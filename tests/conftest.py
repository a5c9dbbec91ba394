"""Fixtures for all tests: real servers and workers. Every key of ours must have a time to live."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from hypothesis import HealthCheck, settings
from kombu import pools
from redis import Redis

from celery_batches_notify import Batches
from tests.support.acl import url_as
from tests.support.servers import PATIENT, close_store, server_named

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Start an embedded Valkey, or the server that `BATCHES_TESTS_SERVER` names, for the whole run."""
    with server_named("valkey") as url:
        yield url


@pytest.fixture
def redis(server_url: str) -> Iterator[Redis]:
    """Return a client of the empty server; fail if a key of ours has no time to live at the end."""
    client = Redis.from_url(server_url)
    client.flushall()
    yield client
    immortal = [key for key in client.scan_iter("batches*") if client.ttl(key) == -1]
    client.close()
    assert not immortal, f"keys without a time to live: {immortal}"


@pytest.fixture(autouse=True)
def _no_closed_pools() -> None:
    """Forget kombu's pools that another test has closed: they are the process's, one for each broker."""
    for group in (pools.producers, pools.connections):
        for broker, pool in [*group.items()]:
            if pool._closed or getattr(pool, "connections", pool)._closed:
                dict.pop(group, broker)


@pytest.fixture
def make_app(redis: Redis, server_url: str) -> Iterator[Callable[..., Celery]]:
    """Return a function that makes apps with batches in the embedded server; the broker is in memory.

    The user of the store has exactly the rights that the documentation gives it.
    """
    made: list[Celery] = []

    def make(**conf: object) -> Celery:
        app = Celery("tests", broker=conf.pop("broker", "memory://"), backend=None, set_as_current=False)
        queue = f"q{uuid4().hex}"  # the memory broker lives as long as the process
        store = url_as(server_url, prefix=str(conf.get("batches_prefix", "batches")))
        if "batches_backend_url" not in conf:
            conf = {"batches_backend_url": store, "batches_backend_options": PATIENT, **conf}
        app.conf.update({"task_default_queue": queue, **conf})
        Batches(app)
        made.append(app)
        return app

    yield make
    for app in made:
        close_store(app)
        app.close()


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    """Return an app whose broker is in memory, without a worker."""
    return make_app()


@pytest.fixture
def no_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave this process no writable directory for temporary files; return what TMPDIR names: a file.

    Patched, because Python tries `/tmp` and the working directory too, and root may write everywhere.
    """
    named = tmp_path / "no-directory"
    named.touch()
    monkeypatch.setenv("TMPDIR", str(named))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(named)])
    return named


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out canvas shapes that Celery itself lacks with some pools and result backends.

    The files with the largest sums of time limits come first, so that no process is left alone at the end.
    """
    left_out = [item for item in items if not _has_shape(item)]
    config.hook.pytest_deselected(items=left_out)
    kept = [item for item in items if item not in set(left_out)]
    limits: dict[Path, float] = {}
    for item in kept:
        limits[item.path] = limits.get(item.path, 0) + _limit_of(item)
    items[:] = sorted(kept, key=lambda item: -limits[item.path])


def _limit_of(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 1.0


def _has_shape(item: pytest.Item) -> bool:
    shape = item.callspec.params.get("shape") if hasattr(item, "callspec") else None
    where = item.name.partition("[")[2]
    lacks_prefork = shape is not None and shape.prefork_only and "threads" in where
    lacks_redis = shape is not None and shape.redis_only and "-file" in where
    return not (lacks_prefork or lacks_redis)
