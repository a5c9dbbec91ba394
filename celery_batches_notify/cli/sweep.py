"""One sweep, for those who run it from cron."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celery import Celery

from celery_batches_notify.cli.engine_of import engine_of


def sweep_once(app: Celery, echo: Callable[[str], None]) -> int:
    """Sweep, unless a worker does just now, and say what came of it; return the exit code.

    Raises:
        BatchesError: The store is away, or a setting is wrong.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sweeper = engine_of(app).sweeper
    try:
        if not sweeper.turn():
            echo("another process is sweeping: nothing to do here")
            return 0
    finally:
        sweeper.stop()
    done = sweeper.done
    echo(
        f"looked at {done['looked at']} live batches: {done['published']} callbacks published, "
        f"{done['sent again']} members sent again, {done['abandoned']} without a producer, "
        f"{done['retired']} batches retired, {done['failed']} failed"
    )
    return 1 if done["failed"] else 0
