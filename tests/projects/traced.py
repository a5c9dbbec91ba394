"""An app whose producer and worker are traced; each process appends its spans to a file, one JSON per line.

`python -m tests.projects.traced` is the producer: it makes a batch within a span, and prints its id.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class FileExporter(SpanExporter):
    """Appends spans to a file at once."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(os.environ["BATCHES_TEST_SPANS"]).open("a") as file:
            for span in spans:
                file.write(json.dumps(describe(span)) + "\n")
        return SpanExportResult.SUCCESS


def describe(span: ReadableSpan) -> dict[str, object]:
    return {
        "name": span.name,
        "trace": span.context.trace_id,
        "id": span.context.span_id,
        "parent": span.parent.span_id if span.parent else 0,
        "start": span.start_time,
        "end": span.end_time,
        "attributes": dict(span.attributes or {}),
        "status": span.status.status_code.name,
        "links": len(span.links),
    }


def set_up() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


when = os.environ["BATCHES_TEST_INSTRUMENT"]
if when == "before":
    set_up()

from tests.projects.proj import app  # noqa: E402

if when == "after":
    set_up()
if when == "in-children":
    worker_process_init.connect(lambda **_: set_up(), weak=False)

if __name__ == "__main__":
    from celery_batches_notify import Batch

    if when == "in-children":
        set_up()
    with trace.get_tracer("shop").start_as_current_span("request"):
        batch = Batch("Import rows", app=app).on("finish", app.signature("proj.callback", args=("x",)))
        with batch:
            for name in sys.argv[1:]:
                app.tasks[name].delay()
    print(batch.bid)
