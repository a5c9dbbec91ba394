"""One sweep, for those who run it from cron."""

from __future__ import annotations

import logging

from celery import Celery

from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.output import Output
from celery_batches_notify.text import counted

COUNTED = ("looked at", "published", "sent again", "abandoned", "retired", "failed")


def sweep_once(app: Celery, out: Output) -> int:
    """Sweep, unless a worker is sweeping, and print the result; return the exit code.

    Raises:
        BatchesError: The store is away, or a setting is wrong.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sweeper = engine_of(app).sweeper
    try:
        if not sweeper.sweep_if_leader():
            return out.end("another process is sweeping: nothing to do here", 0, swept=False)
    finally:
        sweeper.stop()
    done = sweeper.done
    words = (
        f"looked at {counted(done['looked at'], 'live batch', 'live batches')}: "
        f"{counted(done['published'], 'callback')} published, "
        f"{counted(done['sent again'], 'member')} sent again, {done['abandoned']} without a producer, "
        f"{counted(done['retired'], 'batch', 'batches')} retired, {done['failed']} failed"
    )
    fields = {name.replace(" ", "_"): done[name] for name in COUNTED}
    return out.end(words, 1 if done["failed"] else 0, swept=True, **fields)
