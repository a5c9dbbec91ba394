"""A worker of the same project whose module forgot to call `Batches(app)`."""

from __future__ import annotations

import os

from celery import Celery

from tests.projects.proj_tasks import note

URL = os.environ["BATCHES_TEST_URL"]

app = Celery("proj", broker=os.environ.get("BATCHES_TEST_BROKER", URL))
app.conf.update(
    result_backend=os.environ.get("BATCHES_TEST_BACKEND"), broker_connection_retry_on_startup=True
)


@app.task(name="proj.ok", shared=False)
def ok(x: object = None) -> object:
    return x


@app.task(name="proj.callback", shared=False)
def callback(status: dict, *words: str) -> None:
    note("callback", status["bid"], *words)
