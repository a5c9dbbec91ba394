"""OpenTelemetry: a real SDK and instrumentation in a real producer and worker; and none at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from redis import Redis

from celery_batches_notify import Batch, traces
from celery_batches_notify.membership import State
from tests.support.acl import url_as
from tests.support.apps import open_app
from tests.support.servers import ROOT, running_worker, wait_until
from tests.support.terminal import make_batch

pytestmark = pytest.mark.timeout(240)
MEMBERS = ("proj.ok", "proj.ok", "proj.fail")


def run_python(*words: str, **environment: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("pool", "when"), [("threads", "before"), ("threads", "after"), ("prefork", "in-children")]
)
def test_members_name_their_batch_and_each_batch_has_one_span(
    redis: Redis, server_url: str, tmp_path: Path, pool: str, when: str
) -> None:
    file = tmp_path / "spans"
    env = {"BATCHES_TEST_SPANS": str(file), "BATCHES_TEST_INSTRUMENT": when, "BATCHES_TEST_LINGER": "600"}

    def spans(name: str) -> list[dict[str, Any]]:
        lines = file.read_text().splitlines() if file.exists() else []
        return [span for span in map(json.loads, lines) if span["name"] == name]

    with running_worker(server_url, pool, app="traced", **env), open_app(server_url) as app:
        named = {"BATCHES_TEST_URL": server_url, "BATCHES_TEST_STORE": url_as(server_url), **env}
        bid = run_python("-m", "tests.projects.traced", *MEMBERS, **named)
        wait_until(lambda: spans("run/proj.callback"), seconds=60, what="the callback")
        wait_until(lambda: spans("celery.batch"), what="the span of the batch")
        status = Batch.get(bid, app=app).status()
    (request,), (batch,) = spans("request"), spans("celery.batch")
    assert (batch["trace"], batch["parent"]) == (request["trace"], request["id"])
    assert status.finish_at
    for name, at in (("start", status.created_at), ("end", status.finish_at)):
        assert batch[name] == round(at.timestamp() * 1000) * 1_000_000
    assert batch["links"] <= 2 and batch["status"] == "ERROR"
    assert batch["attributes"] == {
        "celery.batch.id": bid,
        "celery.batch.state": "dead",
        "celery.batch.total": 3,
        "celery.batch.succeeded": 2,
        "celery.batch.dead": 1,
        "celery.batch.description": "Import rows",
    }
    members = spans("run/proj.ok") + spans("run/proj.fail")
    assert {span["attributes"].get("celery.batch.id") for span in members} == {bid}
    assert {span["attributes"].get("celery.batch.index") for span in members} == {0, 1, 2}
    (callback,), (published,) = spans("run/proj.callback"), spans("apply_async/proj.callback")
    assert published["parent"] == batch["id"] and callback["parent"] == published["id"]
    assert "celery.batch.id" not in callback["attributes"]


def test_batches_need_no_opentelemetry(server_url: str, redis: Redis) -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None;"  # as if it were not installed
        "from celery import Celery; from celery_batches_notify import Batch, Batches, traces;"
        f"app = Celery(broker='memory://'); app.conf.batches_backend_url = {server_url!r};"
        "Batches(app); batch = Batch(app=app); batch.seal();"
        "print(batch.status().state, traces.is_recording())"
    )
    assert run_python("-c", code) == "success False"


@pytest.fixture
def app(redis: Redis, server_url: str) -> Iterator[Celery]:
    with open_app(server_url) as app:
        yield app


class Broken:
    """A tracer that raises, whatever is asked of it."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error(name)


def test_a_broken_tracer_costs_no_batch_and_no_callback(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", Broken(RuntimeError))
    batch = Batch(app=app).on("success", app.signature("proj.callback", args=("x",)))
    batch.seal()
    (message,) = redis.lrange("celery", 0, -1)
    assert json.loads(message)["headers"]["task"] == "proj.callback"
    assert traces.is_recording() is False
    traces.name_batch(batch.bid, 0)
    traces.record_batch(b"1-2-3", batch.status())
    with traces.below_batch(b"1-2-3"):
        pass


def test_sentry_gets_no_tag_if_it_gives_a_run_no_scope_of_its_own() -> None:
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(sentry_sdk.Client("http://key@127.0.0.1:1/1", default_integrations=False))
        traces.name_batch("b", 0)
        assert "celery.batch.id" not in scope._tags
        assert not traces.is_recording()


def test_a_soft_time_limit_within_a_tracer_is_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", Broken(SoftTimeLimitExceeded))
    with pytest.raises(SoftTimeLimitExceeded):
        traces.name_batch("b", 0)


def test_what_is_raised_below_a_batch_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", Broken(RuntimeError))
    with pytest.raises(KeyError), traces.below_batch(b"1-2-3"):
        raise KeyError


def test_a_span_whose_process_died_is_recorded_by_the_next_sweep(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_batches_notify.producer.declaration.begin_trace", lambda: "a-b-c")
    recorded: list[object] = []
    monkeypatch.setattr(traces, "record_batch", lambda *given: recorded.append(given))
    engine = app._batches_extension.engine
    made = make_batch(app, 1)
    key = f"batches:{{{made.bid}}}"
    made.report(State.SUCCEEDED)  # and its process dies here
    assert redis.hget(f"{key}:outbox", "trace:0").startswith(b"due 0 ")
    redis.hset(f"{key}:outbox", "trace:0", "due 0 1")
    redis.hset(key, "next_due", 1)
    engine.sweeper.sweep()
    engine.sweeper.sweep()
    (given,) = recorded
    assert given[0] == b"a-b-c" and given[1].state == "success"
    assert redis.hget(f"{key}:outbox", "trace:0").startswith(b"delivered 1 ")
    assert redis.zcard("batches:live") == 0
    assert made.batch.status().callbacks == ()


def test_a_batch_of_an_untraced_producer_has_no_span(app: Celery, redis: Redis) -> None:
    made = make_batch(app, 0)
    assert not redis.hexists(f"batches:{{{made.bid}}}", "trace")
    assert not redis.exists(f"batches:{{{made.bid}}}:outbox")


def test_ids_are_read_as_they_were_written() -> None:
    ids = traces.Ids(2**128 - 1, 5, 0)
    assert traces.Ids.parse(str(ids).encode()) == ids
