"""The app that the workers of all scenarios run; what is set comes from the environment, as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery

from celery_batches_notify import Batches, settings
from celery_batches_notify.doctor import reconcile
from celery_batches_notify.membership import Membership, Outcome
from celery_batches_notify.store.recorded import Recorded
from celery_batches_notify.store.store import Store
from tests.chaos.journal import note
from tests.projects.chaos_tasks import declare_tasks
from tests.support.failpoints import arm

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


def hurry(seconds: float) -> None:
    """Let batches that stand still be looked into after seconds, where the product waits for a minute."""
    settings.AT_LEAST["batches_vanished_after"] = 0
    reconcile.QUIET_SECONDS = seconds  # type: ignore[assignment]
    reconcile.BETWEEN_LOOKS_SECONDS = min(seconds, reconcile.BETWEEN_LOOKS_SECONDS)


if CONF in os.environ:
    write_reports_down()
    arm()
    conf = json.loads(os.environ[CONF])
    if still := conf.pop("chaos_still_seconds", None):
        hurry(still)
        conf["batches_vanished_after"] = still
    app = make_app(conf)
    app.set_current()
