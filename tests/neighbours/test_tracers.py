"""Batches beside packages that trace Celery's tasks: Sentry, OpenTelemetry, ddtrace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.neighbours import RUNS, Beside, beside
from tests.support.servers import wait_until

pytestmark = pytest.mark.timeout(180)

PACKAGE = {
    "sentry": "sentry_sdk",
    "opentelemetry": "opentelemetry.instrumentation.celery",
    "ddtrace": "ddtrace",
}
HEADER = {"sentry": "sentry-trace", "opentelemetry": "traceparent", "ddtrace": "x-datadog-trace-id"}


@pytest.fixture(scope="module")
def traced(request: pytest.FixtureRequest, server_url: str) -> Iterator[tuple[str, Beside]]:
    name = request.param
    # One child publishes the callbacks of both traces.
    with beside(server_url, name, "-c", "1", needs=PACKAGE[name]) as batches:
        batches.produce()
        yield name, batches


@pytest.mark.parametrize("traced", list(PACKAGE), indirect=True)
def test_every_member_and_callback_is_counted_once_beside_a_tracer(traced: tuple[str, Beside]) -> None:
    _, batches = traced
    batches.check_counts()


@pytest.mark.parametrize("traced", list(PACKAGE), indirect=True)
def test_every_message_has_the_tracers_header(traced: tuple[str, Beside]) -> None:
    name, batches = traced
    assert Counter(run["task"] for run in batches.runs() if HEADER[name] in run["headers"]) == RUNS


@pytest.mark.parametrize("traced", list(PACKAGE), indirect=True)
def test_members_run_in_the_trace_of_their_caller(traced: tuple[str, Beside]) -> None:
    _, batches = traced
    first, second = batches.traces
    assert first != second
    assert batches.traces_of(of_callbacks=False) == {
        "block": {first},
        "add": {first},
        "map": {first},
        "again": {first, second},
        "other": {second},
    }


# ddtrace's trace ends with the span of the member, which may be before the callback is published.
@pytest.mark.parametrize("traced", ["sentry", "opentelemetry"], indirect=True)
def test_callbacks_run_in_the_trace_of_their_batch_or_of_their_last_member(
    traced: tuple[str, Beside],
) -> None:
    name, batches = traced
    traces = batches.traces_of(of_callbacks=True)
    first, second = batches.traces
    has_span = name == "opentelemetry"  # the batch's own span is in the first trace; Sentry knows none
    assert traces == {
        "block": {first},
        "add": {first},
        "map": {first},
        "again": {first} if has_span else {first, second},
        "other": {second},
    }


@pytest.mark.parametrize("traced", ["sentry", "opentelemetry"], indirect=True)
def test_each_task_of_a_chain_that_is_called_back_runs_in_the_trace_of_its_batch(
    traced: tuple[str, Beside],
) -> None:
    _, batches = traced
    wait_until(lambda: len(batches.kept("chained")) == 2, what="the chain")
    assert set(batches.kept("chained")) == {batches.traces[0]}


@pytest.mark.parametrize("traced", ["sentry"], indirect=True)
def test_sentry_gets_an_event_for_each_error_and_none_for_a_retry(traced: tuple[str, Beside]) -> None:
    _, batches = traced
    events = [each for each in batches.kept("sentry") if "exception" in each]
    raised = sorted(each["exception"]["values"][-1]["value"] for each in events)
    assert raised == ["for good", "the first time"]
    failed = {(run["id"], run["bid"]) for run in batches.runs() if run["task"] in ("fail", "fail_once")}
    assert {(each["tags"]["celery_task_id"], each["tags"]["celery.batch.id"]) for each in events} == failed


@pytest.mark.parametrize("traced", ["opentelemetry"], indirect=True)
def test_each_run_is_a_span_below_the_one_that_published_it(traced: tuple[str, Beside]) -> None:
    _, batches = traced
    wait_until(lambda: sum(each["name"] == "run/note_trace" for each in batches.kept("spans")) == 2)
    spans = batches.kept("spans")
    published = {each["id"]: each["name"] for each in spans if each["name"].startswith("apply_async/")}
    runs = [each for each in spans if each["name"].startswith("run/")]
    assert Counter(each["name"].removeprefix("run/") for each in runs) == {**RUNS, "note_trace": 2}
    for each in runs:
        assert published[each["parent"]] == each["name"].replace("run/", "apply_async/")
