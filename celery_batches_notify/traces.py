"""OpenTelemetry and Sentry, if the program uses them: spans and events of a member name its batch.

With OpenTelemetry, each batch has a span too. Nothing is imported here: a program that has a tracer has
imported it itself. The ids of a batch's span are drawn when the batch is stored, so that each process can
put callbacks below it, and the process that records it, should it do so twice, records the same span.
"""

from __future__ import annotations

import copy
import logging
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from celery.exceptions import SoftTimeLimitExceeded

if TYPE_CHECKING:
    from celery_batches_notify.model import BatchStatus

P = ParamSpec("P")
T = TypeVar("T")

FIELD = "trace"
ENTRY = "trace:0"  # its entry in the outbox: a batch's end makes it due, as it does callbacks
NAME = "celery.batch"

logger = logging.getLogger(__name__)


def _harmless(default: T) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function return `default` if the tracer raises, because a trace must not cost a report."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except SoftTimeLimitExceeded:
                raise
            except Exception as exc:  # noqa: BLE001 - a tracer may raise anything  # safety: broken-tracer
                logger.debug("not traced: %r", exc)
                return default

        return call

    return decorate


@dataclass(frozen=True, slots=True)
class Ids:
    """The trace of a batch, the span that it will have, and the span that it is made in, or 0."""

    trace: int
    span: int
    parent: int

    def __str__(self) -> str:
        return f"{self.trace:032x}-{self.span:016x}-{self.parent:016x}"

    @classmethod
    def parse(cls, stored: bytes) -> Ids:
        """Read what `begin` returned."""
        trace, span, parent = (int(part, 16) for part in stored.split(b"-"))
        return cls(trace, span, parent)


@_harmless(False)
def is_recording() -> bool:
    """Return whether OpenTelemetry or Sentry records what runs here."""
    api = _find_api()
    return _sentry_scopes_runs() or (api is not None and api.get_current_span().is_recording())


@_harmless("")
def begin() -> str:
    """Return the ids for the span of a batch that is stored now; "" if nothing is traced here."""
    if (api := _find_api()) is None:
        return ""
    around = api.get_current_span().get_span_context()
    if around.is_valid:
        ids = Ids(around.trace_id, _draw(64), around.span_id)
        return str(ids) if around.trace_flags.sampled else ""
    if isinstance(api.get_tracer_provider(), (api.ProxyTracerProvider, api.NoOpTracerProvider)):
        return ""
    return str(Ids(_draw(128), _draw(64), 0))


@_harmless(None)
def name_batch(bid: str, index: int | None) -> None:
    """Name the batch on what is recorded of the member that runs here, and its place on its span."""
    if _sentry_scopes_runs():
        sys.modules["sentry_sdk"].get_isolation_scope().set_tag("celery.batch.id", bid)
    if (api := _find_api()) is not None and (span := api.get_current_span()).is_recording():
        span.set_attribute("celery.batch.id", bid)
        if index is not None:
            span.set_attribute("celery.batch.index", index)


@_harmless(None)
def record_batch(stored: bytes | None, status: BatchStatus) -> None:
    """Record the span of a batch that has finished, from its creation to its end by the store's clock."""
    api = _find_api()
    if api is None or not stored or status.finish_at is None:
        return
    ids, tracer = Ids.parse(stored), copy.copy(api.get_tracer("celery_batches_notify"))
    if hasattr(tracer, "id_generator"):
        tracer.id_generator = _Given(ids, tracer.id_generator)
    span = tracer.start_span(
        NAME,
        context=api.set_span_in_context(_remote(api, ids.trace, ids.parent), _empty()),
        start_time=_nanoseconds(status.created_at),
        attributes={
            "celery.batch.id": status.bid,
            "celery.batch.state": status.state,
            "celery.batch.total": status.total,
            "celery.batch.succeeded": status.succeeded,
            "celery.batch.dead": status.dead,
            **({"celery.batch.description": status.description} if status.description else {}),
            **({"celery.batch.parent_id": status.parent_bid} if status.parent_bid else {}),
        },
    )
    if status.dead:
        span.set_status(api.StatusCode.ERROR, f"{status.dead} of {status.total} members are dead")
    span.end(_nanoseconds(status.finish_at))


@contextmanager
def below_batch(stored: bytes | None) -> Iterator[None]:
    """Let what is published in this block be below the span of a batch."""
    token = _attach(stored)
    try:
        yield
    finally:
        _detach(token)


@_harmless(None)
def _attach(stored: bytes | None) -> Any:
    if (api := _find_api()) is None or not stored:
        return None
    ids = Ids.parse(stored)
    above = api.set_span_in_context(_remote(api, ids.trace, ids.span), _empty())
    return import_module("opentelemetry.context").attach(above)


@_harmless(None)
def _detach(token: Any) -> None:
    if token is not None:
        import_module("opentelemetry.context").detach(token)


class _Given:
    """Gives an SDK's tracer the ids of a batch's span."""

    def __init__(self, ids: Ids, own: Any) -> None:
        self._ids = ids
        self._own = own

    def generate_span_id(self) -> int:
        return self._ids.span

    def generate_trace_id(self) -> int:
        return self._ids.trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def _sentry_scopes_runs() -> bool:
    """Whether Sentry gives each run a scope of its own: without, a tag would stay for the next run."""
    sentry: Any = sys.modules.get("sentry_sdk")
    # safety: own-scope
    return sentry is not None and sentry.get_client().get_integration("celery") is not None


def _find_api() -> Any:
    return sys.modules.get("opentelemetry.trace")


def _empty() -> Any:
    return import_module("opentelemetry.context").Context()


def _remote(api: Any, trace: int, span: int) -> Any:
    """Return a span of another process; an invalid one, which is no parent, if its id is 0."""
    flags = api.TraceFlags(api.TraceFlags.SAMPLED)
    return api.NonRecordingSpan(api.SpanContext(trace, span, is_remote=True, trace_flags=flags))


def _draw(bits: int) -> int:
    return secrets.randbits(bits) or 1


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
