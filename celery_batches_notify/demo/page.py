"""The demo's status page: served while the demo runs, and kept at its end until somebody interrupts it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.testing.signals import Interrupted

STARTS_SECONDS, LOOKS_SECONDS = 30.0, 0.02


@contextmanager
def serve_page(app: Celery) -> Iterator[str]:
    """Serve the page of the demo's batches at a free port of 127.0.0.1; give its URL.

    Raises:
        ConfigurationError: A package of the extra `web` is missing, or the server does not start.
    """
    try:
        from celery_batches_notify.web import GRANTS, status_page  # noqa: PLC0415 - an extra
        from celery_batches_notify.web.serving import PageServer  # noqa: PLC0415
    except ImportError as exc:
        raise ConfigurationError(f"--web needs {exc.name}: pip install 'celery-batches-notify[web]'") from exc
    page = status_page(app, access=GRANTS)
    server = PageServer(page, port=0, log_level="error")
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    pause = threading.Event()
    for _ in range(int(STARTS_SECONDS / LOOKS_SECONDS)):
        if server.started:
            break
        pause.wait(LOOKS_SECONDS)
    else:
        raise ConfigurationError("the page's server does not start")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(STARTS_SECONDS)


def wait_for_interrupt() -> None:
    """Wait until somebody presses Ctrl-C, or ends the process politely."""
    try:
        while True:
            threading.Event().wait(3600)
    except Interrupted:
        return
