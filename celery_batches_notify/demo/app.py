"""The demo's Celery app: three tasks, batches, and two notifiers."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from celery import Celery

from celery_batches_notify import Batches
from celery_batches_notify.demo.measuring import Measure, add_up, measure_module
from celery_batches_notify.demo.surroundings import MEASURES_FILE, SECRET_VARIABLE, SUM_FILE, Surroundings

MEASURE = "demo.measure"
COUNT_BYTES = "demo.count_bytes"
ADD_UP = "demo.add_up"
FAILURES_KEPT = 10_000


def create_app(here: Surroundings) -> Celery:
    """Make the app for one run, as any project would beside its tasks."""
    app = Celery("batches-demo", broker=here.redis_url, backend=None)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"global_keyprefix": f"{here.prefix}:"},
        task_default_queue=here.prefix,
        batches_backend_url=here.redis_url,
        batches_prefix=here.prefix,
        batches_sweep_interval=2,
        batches_failures_kept=FAILURES_KEPT,
        batches_notifications={
            "email": {
                "to": "you@example.com",
                "from": "Batches <batches@example.com>",
                "via": "smtp",
                "via_options": {"address": "127.0.0.1", "port": int(here.smtp_port)},
            },
            "webhook": {"url": here.webhook_url, "secret": f"env:{SECRET_VARIABLE}"},
        },
    )
    Batches(app)
    _add_tasks(app, Path(here.directory))
    return app


def _add_tasks(app: Celery, directory: Path) -> None:
    @app.task(name=MEASURE)
    def measure(path: str) -> None:
        note_measure(directory, measure_module(Path(path)))

    @app.task(name=COUNT_BYTES)
    def count_bytes(path: str) -> int:
        return len(Path(path).read_bytes())

    @app.task(name=ADD_UP)
    def add_measures_up(status: dict[str, Any]) -> None:
        write_sum(directory, status["bid"])


def note_measure(directory: Path, measure: Measure) -> None:
    """Append a measure to the file of measures; one write, so that several processes can do it at once."""
    line = json.dumps(dataclasses.asdict(measure)) + "\n"
    with (directory / MEASURES_FILE).open("ab", buffering=0) as file:
        file.write(line.encode())


def write_sum(directory: Path, bid: str) -> None:
    """Add all measures up and write the sum to a file that is there whole or not at all."""
    lines = (directory / MEASURES_FILE).read_text("utf-8").splitlines()
    total = add_up(Measure(**json.loads(line)) for line in lines)
    unfinished = directory / f"{SUM_FILE}.{os.getpid()}"
    unfinished.write_text(json.dumps({"bid": bid, **dataclasses.asdict(total)}), "utf-8")
    unfinished.replace(directory / SUM_FILE)
