"""The demo's Celery app: three tasks, batches, and two notifiers."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from celery_batches_notify import Batches
from celery_batches_notify.demo.modules import measure_module

MEASURE, COUNT_BYTES, ADD_UP = "demo.measure", "demo.count_bytes", "demo.add_up"
MEASURES_FILE, SUM_FILE = "measures.jsonl", "sum.json"
FAILURES_KEPT = 10_000

_VARIABLE = "BATCHES_DEMO_RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The servers, the secret and the directory of one run. The worker gets them in its environment.

    Attributes:
        redis_url: The server that is both broker and store.
        prefix: The beginning of every name that the run uses on that server.
        directory: Where tasks write their results, because there is no result backend.
        smtp_port: The port of 127.0.0.1 where mail is caught.
        webhook_url: Where webhooks are caught.
        webhook_secret: The key of their signatures.
    """

    redis_url: str = field(repr=False)
    prefix: str
    directory: str
    smtp_port: int
    webhook_url: str
    webhook_secret: str = field(repr=False)

    @classmethod
    def from_environ(cls) -> Run:
        """Read what `as_environ` wrote. Raises `KeyError` outside the demo's worker."""
        return cls(**json.loads(os.environ[_VARIABLE]))

    def as_environ(self) -> dict[str, str]:
        """Return the environment variable that carries this run to the worker."""
        return {_VARIABLE: json.dumps(asdict(self))}


def create_app(run: Run) -> Celery:
    """Make the app for one run, as any project would beside its tasks."""
    app = Celery("batches-demo", broker=run.redis_url, backend=None)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"global_keyprefix": f"{run.prefix}:"},
        task_default_queue=run.prefix,
        batches_backend_url=run.redis_url,
        batches_prefix=run.prefix,
        batches_sweep_interval=2,
        batches_failures_kept=FAILURES_KEPT,
        batches_notifications={
            "email": {
                "to": "you@example.com",
                "from": "Batches <batches@example.com>",
                "via": "smtp",
                "via_options": {"address": "127.0.0.1", "port": run.smtp_port},
            },
            "webhook": {"url": run.webhook_url, "secret": run.webhook_secret},
        },
    )
    Batches(app)
    _add_tasks(app, Path(run.directory))
    return app


def _add_tasks(app: Celery, directory: Path) -> None:
    @app.task(name=MEASURE)
    def measure(path: str) -> None:
        line = json.dumps([path, measure_module(Path(path))]) + "\n"
        with (directory / MEASURES_FILE).open("ab", buffering=0) as file:
            file.write(line.encode())  # one write, so that several processes can append at once

    @app.task(name=COUNT_BYTES)
    def count_bytes(path: str) -> int:
        return len(Path(path).read_bytes())

    @app.task(name=ADD_UP)
    def add_measures_up(status: dict[str, Any]) -> None:
        write_sum(directory, status["bid"])


def write_sum(directory: Path, bid: str) -> None:
    """Add the measures up, each module once, and write the sum to a file in one step."""
    lines = (directory / MEASURES_FILE).read_text("utf-8").splitlines()
    measures: dict[str, dict[str, int]] = dict(json.loads(line) for line in lines)
    total = Counter(modules=len(measures))
    for measure in measures.values():
        total.update(measure)
    unfinished = directory / f"{SUM_FILE}.{os.getpid()}"
    unfinished.write_text(json.dumps({"bid": bid, **total}), "utf-8")
    unfinished.replace(directory / SUM_FILE)
