"""`/metrics` as Prometheus and other agents read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from celery import Celery
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_plain
from redis import Redis
from starlette.testclient import TestClient

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from celery_batches_notify.metrics.collector import Collector, sum_live
from celery_batches_notify.metrics.families import (
    OPEN_METRICS,
    PLAIN,
    Family,
    Sample,
    accepts_open_metrics,
    render_families,
)
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.totals import delivery_name
from celery_batches_notify.web import basic_auth, status_page, wsgi_status_page
from tests.support.terminal import make_batch

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.fixture
def client_of(app: Celery) -> Iterator[Callable[..., TestClient]]:
    made: list[TestClient] = []

    def make(**options: Any) -> TestClient:
        made.append(TestClient(status_page(app, **options), raise_server_exceptions=False))
        return made[-1]

    yield make
    for client in made:
        client.close()


def values(text: str, *, open_metrics: bool = False) -> dict[str, float]:
    """Read a text with Prometheus' own parser."""
    read = read_open_metrics if open_metrics else read_plain
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in read(text)
        for sample in family.samples
    }


def test_both_formats_say_the_same_and_each_parser_reads_its_own(
    app: Celery, client_of: Callable[..., TestClient]
) -> None:
    made = make_batch(app, 4)
    made.report(State.SUCCEEDED, 0)
    ended = make_batch(app, 2)
    ended.report(State.SUCCEEDED)
    app._batches_extension.engine.sweeper.sweep()
    client = client_of()
    plain, asked = client.get("/metrics"), client.get("/metrics", headers={"accept": PROMETHEUS})
    assert plain.headers["content-type"] == PLAIN
    assert asked.headers["content-type"] == OPEN_METRICS
    assert plain.headers["cache-control"] == "no-store"
    found = values(plain.text)
    assert values(asked.text, open_metrics=True) == found
    assert found["celery_batches_created_total"] == 2
    assert found["celery_batches_ended_total|success"] == 1
    assert found["celery_batches_ended_total|dead"] == 0
    assert found["celery_batches_members_total|succeeded"] == 3
    assert found["celery_batches_live|running"] == 1
    assert found["celery_batches_live|stalled"] == 0
    assert found["celery_batches_members_pending"] == 3
    assert found["celery_batches_duration_seconds_count"] == 1
    assert found["celery_batches_duration_seconds_bucket|+Inf"] == 1
    assert found["celery_batches_last_sweep_timestamp_seconds"] > 1_700_000_000
    assert found["celery_batches_scrape_truncated"] == 0


def test_a_hundred_batches_bring_no_further_series(app: Celery) -> None:
    def series() -> set[str]:
        app._batches_extension.engine.sweeper.sweep()
        return set(values(render_families(Collector().collect(app._batches_extension.engine))))

    make_batch(app, 1, tags=["customer:1"], description="first")
    before = series()
    for k in range(100):
        make_batch(app, 1, tags=[f"customer:{k}"], description=f"number {k}")
    assert series() == before
    assert not any("customer" in name or "number" in name for name in before)


def test_each_channel_has_its_series_before_anything_was_given_up(make_app: Callable[..., Celery]) -> None:
    app = make_app(batches_notifications={"webhook:billing": {"url": "https://example.com/"}})
    found = values(render_families(Collector().collect(app._batches_extension.engine)))
    for channel in ("webhook:billing", "webhook", "email", "task"):
        assert found[f"celery_batches_deliveries_total|{channel}|given_up"] == 0


def test_a_channel_that_only_the_store_knows_is_shown(app: Celery, store: Store) -> None:
    Batch(app=app).seal()
    (seen,) = store.walk_live()
    assert seen.numbers
    numbers = {delivery_name("own:a b=1|é", "delivered"): 3}
    store.count_batches([replace(seen.numbers, numbers=numbers)])
    found = values(render_families(Collector().collect(app._batches_extension.engine)))
    assert found["celery_batches_deliveries_total|own:a b=1|é|delivered"] == 3


def test_metrics_are_for_those_who_may_read(client_of: Callable[..., TestClient]) -> None:
    assert client_of(access=frozenset()).get("/metrics").status_code == 403
    client = client_of(access=basic_auth("prometheus", "s3cret"))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", auth=("prometheus", "s3cret")).status_code == 200


def test_a_store_that_is_away_is_a_failed_scrape(make_app: Callable[..., Celery]) -> None:
    app = make_app(batches_backend_url="redis://127.0.0.1:1/0", batches_backend_options={})
    with TestClient(status_page(app), raise_server_exceptions=False) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 503
    assert "127.0.0.1" not in answer.text


def test_the_page_in_flask_and_django_has_metrics_too(app: Celery) -> None:
    make_batch(app, 1)
    answered: list[Any] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "SCRIPT_NAME": "/batches"}
    page = wsgi_status_page(app)
    body = b"".join(page({**environ, "wsgi.input": BytesIO()}, lambda *given: answered.append(given)))
    assert answered[0][0] == "200 OK"
    assert values(body.decode())["celery_batches_live|running"] == 1


def test_figures_of_live_batches_are_kept_for_ten_seconds_and_counters_are_not(app: Celery) -> None:
    now = [0.0]
    collector = Collector(clock=lambda: now[0])

    def read() -> tuple[float, float]:
        found = values(render_families(collector.collect(app._batches_extension.engine)))
        return found["celery_batches_live|running"], found["celery_batches_created_total"]

    assert read() == (0, 0)
    make_batch(app, 1)
    app._batches_extension.engine.sweeper.sweep()
    now[0] = 9.9
    assert read() == (0, 1)
    now[0] = 10.0
    assert read() == (1, 1)


def test_sums_say_when_they_leave_batches_out(app: Celery, store: Store) -> None:
    for _ in range(3):
        make_batch(app, 2)
    assert (sum_live(store, 3).truncated, sum_live(store, 3).pending) == (False, 6)
    assert (sum_live(store, 2).truncated, sum_live(store, 2).pending) == (True, 4)


def test_the_longest_silence_and_the_oldest_are_those_of_unfinished_batches(
    app: Celery, redis: Redis, store: Store
) -> None:
    ended, running, young = make_batch(app, 1), make_batch(app, 2), make_batch(app, 2)
    ended.report(State.SUCCEEDED)
    for batch, ago in ((ended, 900), (running, 600), (young, 5)):
        key = f"batches:{{{batch.bid}}}"
        for name, more in (("created_at", 1000), ("reported_at", 0)):
            redis.hincrby(key, name, -(ago + more) * 1000)
    live = sum_live(store, 10)
    assert 600 <= live.quiet.total_seconds() < 890
    assert 1600 <= live.oldest.total_seconds() < 1890


def test_a_batch_that_cannot_be_read_is_left_out_of_the_sums(app: Celery, redis: Redis, store: Store) -> None:
    make_batch(app, 1)
    broken, newer, gone = (make_batch(app, 1) for _ in range(3))
    redis.hset(f"batches:{{{broken.bid}}}", "total", "x")
    redis.hset(f"batches:{{{newer.bid}}}", "schema", 99)
    redis.unlink(f"batches:{{{gone.bid}}}")
    assert sum(sum_live(store, 10).states.values()) == 1


def test_open_deliveries_are_summed_up(app: Celery, store: Store) -> None:
    Batch(app=app).on("success", app.signature("proj.ok")).on("finish", app.signature("proj.ok")).seal()
    assert sum_live(store, 10).open_deliveries == 2


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("APPLICATION/OpenMetrics-Text; version=1.0.0", True),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text;q=0, text/plain", False),
        ("application/openmetrics-text; q=0.0,*/*", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_openmetrics_is_for_those_who_ask_for_it(accept: str, is_open: bool) -> None:
    assert accepts_open_metrics(accept) is is_open


@pytest.mark.parametrize("open_metrics", [False, True])
@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "ä€", "a\\nb", "{}=,"])
def test_every_label_and_help_comes_back_as_it_was(value: str, open_metrics: bool) -> None:
    family = Family(name="x", kind="gauge", help=value, samples=(Sample(value=1.5, labels={"l": value}),))
    read = read_open_metrics if open_metrics else read_plain
    (found,) = read(render_families([family], open_metrics=open_metrics))
    assert found.documentation == value
    assert found.samples[0].labels == {"l": value}
    assert found.samples[0].value == 1.5
