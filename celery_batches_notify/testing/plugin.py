"""The pytest plugin. Every pytest run loads it, so it imports the package only when a test needs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from celery import Celery

    from celery_batches_notify.testing.outbox import Outbox

SERVER_VARIABLE = "BATCHES_TEST_URL"


@pytest.fixture(scope="session")
def batches_server() -> Iterator[str]:
    """The redis:// URL of a store for tests: `BATCHES_TEST_URL`, or an embedded Valkey for the whole run."""
    with ExitStack() as stack:
        yield os.environ.get(SERVER_VARIABLE) or _start_server(stack)


@pytest.fixture
def batches_app() -> Celery:
    """The app under test: the current one. Override this fixture in conftest.py to name another."""
    from celery import current_app  # noqa: PLC0415 - see above

    app: Celery = cast("Any", current_app)._get_current_object()
    return app


@pytest.fixture
def batches_sandbox(batches_app: Celery, batches_server: str) -> Iterator[Celery]:
    """The app under test with a broker in memory and an empty store. Each test gets its own."""
    from celery_batches_notify.testing.isolation import sandbox  # noqa: PLC0415

    with sandbox(batches_app, batches_server) as app:
        yield app


@pytest.fixture
def batches_outbox(batches_sandbox: Celery) -> Iterator[Outbox]:  # noqa: ARG001 - notifications need it
    """The notifications that the sandbox's notifiers would have sent, oldest first."""
    from celery_batches_notify.testing.outbox import record_notifications  # noqa: PLC0415

    with record_notifications() as outbox:
        yield outbox


def _start_server(stack: ExitStack) -> str:
    from celery_batches_notify.testing.server import ServerNotStarted, embedded_server  # noqa: PLC0415

    try:
        return stack.enter_context(embedded_server())
    except ServerNotStarted as exc:
        pytest.fail(
            f"batches_server: {exc}, or set {SERVER_VARIABLE} to the redis:// URL of a server for tests",
            pytrace=False,
        )
