"""Run as a script: make batches in every way while a neighbour is active here, and print what they are."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext

from celery import chain

from celery_batches_notify import Batch
from tests.projects.neighbours import app, tracer


def make(description: str, *events: str) -> Batch:
    batch = Batch(description, app=app)
    for event in events:
        batch.on(event, app.tasks["callback"].s(event))
    return batch


def main() -> None:
    ok, fail, retry_once, fail_once = (app.tasks[n] for n in ("ok", "fail", "retry_once", "fail_once"))
    block, added = make("block", "complete", "finish"), make("add", "success")
    mapped, again, other = make("map", "success"), make("again", "death", "success"), make("other", "success")
    if tracer:
        mapped.on("finish", chain(app.tasks["note_trace"].si(), app.tasks["note_trace"].si()))
    with tracer.root() if tracer else nullcontext():
        first = tracer.trace() if tracer else None
        with block:
            for i in range(4):
                ok.delay(i)
            fail.delay()
            retry_once.delay()
        added.add(*(ok.s(i) for i in range(3)))
        mapped.map(ok, range(5))
        again.add(fail_once.s())
    for batch in (block, added, mapped, again):
        batch.join(timeout=60)
    with tracer.root() if tracer else nullcontext():
        second = tracer.trace() if tracer else None
        again.retry()
        other.map(ok, range(3))
    bids = {batch.description: batch.bid for batch in (block, added, mapped, again, other)}
    sys.stdout.write(json.dumps({"traces": [first, second], "bids": bids}))


if __name__ == "__main__":
    main()
