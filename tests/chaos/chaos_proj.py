"""The app that the workers of all scenarios run; what is set comes from the environment, as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery
from chaos_tasks import declare_tasks
from failpoints import arm
from journal import note

from celery_batches_notify import Batches
from celery_batches_notify.model import Membership, Outcome
from celery_batches_notify.store.store import Recorded, Store

CONF = "CHAOS_CONF"


def make_app(conf: dict[str, Any]) -> Celery:
    """Make an app with batches and the tasks of the scenarios."""
    app = Celery("chaos", set_as_current=False)
    app.conf.update(conf)
    Batches(app)
    declare_tasks(app)
    return app


def write_reports_down() -> None:
    """Note every report that this process makes, and what the store said to it, for the ledger."""
    record_outcome = Store.record_outcome

    def noting(self: Store, member: Membership, outcome: Outcome) -> Recorded:
        recorded = record_outcome(self, member, outcome)
        note("report", member.bid, member.task_id, outcome.state.name.lower(), recorded.word)
        return recorded

    Store.record_outcome = noting  # type: ignore[method-assign]


if CONF in os.environ:
    write_reports_down()
    arm()
    app = make_app(json.loads(os.environ[CONF]))
    app.set_current()
