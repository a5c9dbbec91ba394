"""Connections to the broker that give up after a few seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError

from celery_batches_notify.errors import NotAMember

BROKER_TIMEOUT_SECONDS = 5
_TIMEOUTS: dict[str, dict[str, Any]] = {
    "redis": {"socket_timeout": BROKER_TIMEOUT_SECONDS, "socket_connect_timeout": BROKER_TIMEOUT_SECONDS},
    "amqp": {"read_timeout": BROKER_TIMEOUT_SECONDS, "write_timeout": BROKER_TIMEOUT_SECONDS},
}


def connect_for_callbacks(app: Celery) -> Connection:
    """Make a connection to the broker that gives up after a few seconds, as kombu's own does not."""
    connection = app.connection_for_write(connect_timeout=BROKER_TIMEOUT_SECONDS, heartbeat=0)
    timeouts = _TIMEOUTS.get(connection.transport.driver_type, {})
    connection.transport_options = {**timeouts, **(connection.transport_options or {})}
    return connection


def errors_of(connection: Connection) -> tuple[type[BaseException], ...]:
    """Return the errors of a transport whose broker is away or refuses; kombu does not wrap all of them."""
    return (*connection.connection_errors, *connection.channel_errors, OperationalError, OSError)


def refuse_other_broker(app: Celery, name: str, options: Mapping[str, Any]) -> None:
    """Raise `NotAMember` if a call brings a connection to another broker than the one its block sends to."""
    connection = options.get("connection")
    if connection is None and (producer := options.get("producer") or options.get("publisher")) is not None:
        connection = producer.connection
    if connection is None:
        return
    own, given = app.connection_for_write(), connection.as_uri()
    if given != own.as_uri() and not (own.alt and connection.alt == own.alt):
        raise NotAMember(
            f"{name} is called over a connection to {given}, but the open `with batch:` block sends its "
            f"calls to {own.as_uri()}: call it outside the block or in `with outside_batch():`"
        )
