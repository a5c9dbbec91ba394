"""Start-up checks for settings of the broker and of Celery that could lose members or run them twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery import Celery
from kombu.utils.url import maybe_sanitize_url

from celery_batches_notify.messages.broker import connect_for_callbacks, errors_of
from celery_batches_notify.store.findings import Finding

DEFAULT_VISIBILITY_SECONDS = 3600


def check_broker(app: Celery) -> list[Finding]:
    """Check the broker's settings, and ask the broker for its own.

    An unreachable broker is a finding, not an exception.
    """
    options = app.conf.broker_transport_options or {}
    driver = app.connection_for_write().transport.driver_type
    found: list[Finding] = []
    if driver == "amqp":
        found += _check_confirms(options)
    if driver in ("redis", "sqs"):
        found += _check_visibility(app, options)
    if driver == "redis":
        found += _check_redis(app)
    return found


def _check_confirms(options: dict[str, Any]) -> Iterator[Finding]:
    if not options.get("confirm_publish"):
        yield _warning(
            "confirms",
            "RabbitMQ may drop a message and nobody learns of it, so its member waits and the batch shows as "
            'stalled: set broker_transport_options = {"confirm_publish": True}',
        )


def _check_visibility(app: Celery, options: dict[str, Any]) -> Iterator[Finding]:
    visible = options.get("visibility_timeout", DEFAULT_VISIBILITY_SECONDS)
    limits = {name: _late_limit(app, task) for name, task in app.tasks.items()}
    name = max(limits, key=lambda name: limits[name], default="")
    if limits and limits[name] >= visible:
        yield _warning(
            "visibility",
            f"the broker hands a message out again after {visible:g} s (visibility_timeout), and {name} may "
            f"run for {limits[name]:g} s: it then runs twice, though it is counted once: set "
            "visibility_timeout in broker_transport_options above the longest time limit",
        )


def _late_limit(app: Celery, task: Any) -> float:
    """Return how long a task's time limit lets its acknowledgement take; 0 without a limit."""
    return float(task.time_limit or app.conf.task_time_limit or 0) if task.acks_late else 0.0


def _check_redis(app: Celery) -> Iterator[Finding]:
    connection = connect_for_callbacks(app)
    try:
        with connection:
            channel: Any = connection.channel()  # the default channel would wait forever for the broker
            policy = channel.client.info("memory").get("maxmemory_policy", "noeviction")
    except errors_of(connection) as exc:
        where = maybe_sanitize_url(app.conf.broker_url or "")
        words = f"the broker at {where} does not answer, or does not say how it is: {exc}"
        yield _warning("broker", words)
        return
    if policy != "noeviction":
        yield _warning(
            "broker eviction",
            f"the broker's maxmemory-policy is {policy}, so it drops messages when its memory is full and "
            "their members wait for ever: set it to noeviction",
        )


def _warning(subject: str, words: str) -> Finding:
    return Finding(severity="warning", subject=subject, words=words)
