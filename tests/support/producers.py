"""Producers that die: this program takes jobs, each in a fork of its own, and says what became of it.

A job is a line of JSON: `points` (as in `failpoints.py`), `kind` (`with`, `add`, `map`, `autoflush` or
`nested`) and `calls`. The answer is a line too: the bids that it made, and the signal that ended it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from celery_batches_notify import Batch
from celery_batches_notify.producer import chunk
from tests.projects.proj import app
from tests.support import failpoints

CHUNK = 5  # a chunk of five takes the same steps as one of a thousand


def produce(job: dict[str, Any], told: Any) -> None:
    """Make one batch, and its child where it is nested."""

    def new(**options: Any) -> Batch:
        batch = Batch(app=app, **options).on("finish", task_of("callback").s("finish"))
        told.write(batch.bid + "\n")
        told.flush()
        return batch

    def task_of(name: str) -> Any:
        return app.tasks[f"proj.{name}"]

    ran, calls = task_of("ran"), range(job["calls"])
    if job["kind"] == "map":
        new().starmap(ran, (() for _ in calls))
    elif job["kind"] == "add":
        new().add(*(ran.s() for _ in calls))
    elif job["kind"] == "nested":
        with new() as parent:
            ran.delay()
            with new(parent=parent):
                for _ in calls:
                    ran.delay()
    else:
        with new(autoflush=CHUNK if job["kind"] == "autoflush" else None):
            for _ in calls:
                ran.delay()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job in a fork, and wait for its end."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(reading)
        failpoints.arm(job["points"])
        with os.fdopen(writing, "w") as told:
            produce(job, told)
            told.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        bids = told.read().split()
    _, status = os.waitpid(pid, 0)
    return {"bids": bids, "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}


if __name__ == "__main__":
    chunk.CHUNK = CHUNK
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
