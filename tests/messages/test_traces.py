from __future__ import annotations

from typing import Any

from celery import Celery

from celery_batches_notify.messages.traces import add_trace, context_of_report

TRACE = {"sentry-trace": "a-b-1", "baggage": "x=y", "traceparent": "00-a-b-01"}
OURS = {"batches": {"bid": "b"}}


def test_a_callback_carries_the_trace_headers_of_the_member_that_made_it_due(app: Celery) -> None:
    contexts = []

    @app.task(name="member", bind=True, shared=False)
    def member(self: Any) -> None:
        vars(self.request).update(TRACE, other="not a trace")
        contexts.append(context_of_report())

    member.apply()
    inner = {"sentry-trace": "a-b-1", "baggage": "x=y"}
    assert contexts[0].run(add_trace, OURS) == {**OURS, **TRACE, "headers": inner}


def test_a_callback_without_a_trace_has_our_header_alone() -> None:
    assert context_of_report().run(add_trace, OURS) == OURS
