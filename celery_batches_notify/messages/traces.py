"""Traces of other packages: a callback goes on with the trace of the member that made it due."""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context

from celery._state import get_current_worker_task

from celery_batches_notify.messages.headers import Headers

_SENTRY = ("sentry-trace", "baggage")
_W3C = ("traceparent", "tracestate")

_held: ContextVar[Headers] = ContextVar("celery_batches_notify_trace", default={})  # noqa: B039 - never changed


def context_of_report() -> Context:
    """Return a copy of this context for publishing callbacks later, with the running member's trace headers.

    Tracers put the trace of their context into a message. Sentry does so only until the member's run ends,
    so the headers of the member's own message stand in for it.
    """
    context = copy_context()
    task = get_current_worker_task()
    if task is not None:
        request = vars(task.request)  # safety: carried-trace
        context.run(_held.set, {name: request[name] for name in (*_SENTRY, *_W3C) if request.get(name)})
    return context


def add_trace(headers: Headers) -> Headers:
    """Return a callback's headers with those of the trace; a tracer that is active replaces them."""
    held = _held.get()
    # Sentry reads the inner headers, because Celery's retry keeps only those.
    inner = {name: held[name] for name in _SENTRY if "sentry-trace" in held and name in held}
    return headers | held | ({"headers": inner} if inner else {})
