"""Tasks that write down their runs, and the tracers whose traces these runs are part of."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from celery import Celery, Task
from redis import Redis

from celery_batches_notify import Batch

HEADERS = ("sentry-trace", "traceparent", "x-datadog-trace-id", "newrelic")


def keep(kind: str, value: object) -> None:
    """Write a value down where the test can read it."""
    with Redis.from_url(os.environ["BATCHES_TEST_URL"]) as client:
        key = f"{os.environ['BATCHES_TEST_QUEUE']}:{kind}"
        client.rpush(key, json.dumps(value, default=str))
        client.expire(key, 600)


class Tracer(Protocol):
    """A package that links what runs in several processes to one trace."""

    def trace(self) -> str | None:
        """Return the id of the trace that this code runs in."""
        ...

    def root(self) -> AbstractContextManager[object]:
        """Begin a trace, as a web request does."""
        ...


class Sentry:
    """Sentry's SDK, whose events and transactions are written down."""

    def __init__(self) -> None:
        import sentry_sdk
        from sentry_sdk.transport import Transport

        class Kept(Transport):
            def capture_envelope(self, envelope: Any) -> None:
                for item in envelope.items:
                    keep("sentry", {"type": item.type, **(item.payload.json or {})})

        sentry_sdk.init(dsn="http://key@127.0.0.1:1/1", traces_sample_rate=1.0, transport=Kept)

    def trace(self) -> str | None:
        import sentry_sdk

        span = sentry_sdk.get_current_span()
        return span.trace_id if span else None

    def root(self) -> AbstractContextManager[object]:
        import sentry_sdk

        @contextmanager
        def transaction() -> Iterator[None]:
            with sentry_sdk.isolation_scope(), sentry_sdk.start_transaction(name="request"):
                yield

        return transaction()


class OpenTelemetry:
    """OpenTelemetry's instrumentation of Celery, whose spans are written down."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

        class Kept(SpanExporter):
            def export(self, spans: Any) -> SpanExportResult:
                for span in spans:
                    ids = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
                    parent = f"{span.parent.span_id:016x}" if span.parent else None
                    keep("spans", {"name": span.name, "trace": ids[0], "id": ids[1], "parent": parent})
                return SpanExportResult.SUCCESS

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(Kept()))
        trace.set_tracer_provider(provider)
        CeleryInstrumentor().instrument()

    def trace(self) -> str | None:
        from opentelemetry import trace

        return f"{trace.get_current_span().get_span_context().trace_id:032x}"

    def root(self) -> AbstractContextManager[object]:
        from opentelemetry import trace

        return trace.get_tracer("tests").start_as_current_span("request")


class Datadog:
    """ddtrace, without an agent."""

    def __init__(self) -> None:
        os.environ |= {
            "DD_CELERY_DISTRIBUTED_TRACING": "true",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_TRACE_AGENT_URL": "http://127.0.0.1:1",
            "DD_TRACE_STARTUP_LOGS": "false",
        }
        import ddtrace

        ddtrace.patch(celery=True)

    def trace(self) -> str | None:
        from ddtrace.trace import tracer

        span = tracer.current_span()
        return f"{span.trace_id:x}" if span else None

    def root(self) -> AbstractContextManager[object]:
        from ddtrace.trace import tracer

        return tracer.trace("request")


TRACERS: dict[str, type[Tracer]] = {"sentry": Sentry, "opentelemetry": OpenTelemetry, "ddtrace": Datadog}


def declare_tasks(app: Celery, tracer: Tracer | None = None) -> None:
    """Give an app the tasks."""

    def ran(task: Task) -> None:
        request = {**vars(task.request), **(task.request.headers or {})}
        keep(
            "runs",
            {
                "task": task.name,
                "id": task.request.id,
                "bid": (request.get("batches") or {}).get("bid"),
                "trace": tracer.trace() if tracer else None,
                "headers": {name: request[name] for name in HEADERS if request.get(name)},
            },
        )

    options: dict[str, Any] = {"bind": True, "shared": False}

    @app.task(name="ok", **options)
    def ok(self: Task, x: object = None) -> object:
        ran(self)
        return x

    @app.task(name="fail", **options)
    def fail(self: Task) -> None:
        ran(self)
        raise ValueError("for good")

    @app.task(name="retry_once", **options)
    def retry_once(self: Task) -> None:
        ran(self)
        if not self.request.retries:
            raise self.retry(exc=KeyError("at first"), countdown=0)

    @app.task(name="fail_once", **options)
    def fail_once(self: Task) -> None:
        ran(self)
        with Redis.from_url(os.environ["BATCHES_TEST_URL"]) as client:
            if client.set(f"once:{self.request.id}", 1, nx=True, ex=600):
                raise ValueError("the first time")

    @app.task(name="callback", **options)
    def callback(self: Task, status: dict[str, Any], word: str) -> None:
        ran(self)
        keep("callbacks", [status["description"], word])

    @app.task(name="note_trace", **options)
    def note_trace(self: Task) -> None:
        keep("chained", tracer.trace() if tracer else None)

    @app.task(name="start", **options)
    def start(self: Task) -> None:
        """Make a batch, as a task that beat calls does."""
        batch = Batch("by beat", app=app).on("success", app.tasks["callback"].s("success"))
        with batch:
            for i in range(3):
                ok.delay(i)


def declare_special_tasks(app: Celery) -> None:
    """Give an app tasks of celery-singleton, celery-once and celery-batches."""
    from celery_batches import Batches as Buffered
    from celery_once import QueueOnce
    from celery_singleton import Singleton

    @app.task(name="single", base=Singleton, shared=False)
    def single(x: object) -> object:
        return x

    @app.task(name="once", base=QueueOnce, shared=False)
    def once(x: object) -> object:
        return x

    @app.task(name="buffered", base=Buffered, flush_every=2, flush_interval=1, shared=False)
    def buffered(requests: Any) -> None:
        keep("buffered", [request.args[0] for request in requests])


def lock_settings(url: str) -> dict[str, Any]:
    """Return the settings of celery-singleton and celery-once."""
    once = {"backend": "celery_once.backends.Redis", "settings": {"url": url}}
    return {"singleton_backend_url": url, "ONCE": once}
