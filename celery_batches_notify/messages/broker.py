"""Connections to the broker that give up after a few seconds."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Connection

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
