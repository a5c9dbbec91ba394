"""Producers that die: `python doomed_producers.py POINT RUNS MEMBERS`; each is a fork of one warm process.

Each writes into the journal which batch it began and which members it called, and dies at its failpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from celery_batches_notify import Batch
from tests.chaos.journal import note
from tests.chaos.scene import EVENTS
from tests.projects.chaos_proj import CONF, make_app
from tests.support.failpoints import arm

AUTOFLUSH = 8


def publish(members: int) -> None:
    """Publish a batch in several goes."""
    app = make_app(json.loads(os.environ[CONF]))
    batch = Batch(app=app, autoflush=AUTOFLUSH)
    for event in EVENTS:
        batch.on(event, app.tasks["chaos.told"].s(event))
    note("began", batch.bid, "-")
    with batch:
        for _ in range(members):
            note("asked", batch.bid, app.tasks["chaos.member"].delay(batch.bid).id)


def main(point: str, runs: int, members: int) -> int:
    """Run them one after the other; each must die."""
    for _ in range(runs):
        child = os.fork()
        if not child:
            arm(point)
            publish(members)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
