"""Apps for tests that make their own: with batches, and with nothing left open afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from celery_batches_notify import Batches
from tests.projects.proj_tasks import declare_tasks
from tests.support.acl import url_as
from tests.support.servers import PATIENT


@contextmanager
def open_app(url: str, **conf: object) -> Iterator[Celery]:
    """Make an app whose broker and store are at this URL, with the tasks of the tests."""
    app = Celery("tests", broker=url, set_as_current=False)
    app.conf.update({"batches_backend_url": url_as(url), "batches_backend_options": PATIENT, **conf})
    extension = Batches(app)
    declare_tasks(app)
    try:
        yield app
    finally:
        app.close()
        if extension._built is not None and "client" in extension.engine.store.__dict__:
            extension.engine.store.client.close()
