"""The batch behind a shared link: its progress, without failures and ids."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from celery_batches_notify.engine import Engine
from celery_batches_notify.headline import Verdict, describe, judge, name_of
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.pace import Pace, measure_pace
from celery_batches_notify.share_link import read_share
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.parsing import parse_curve, parse_status
from celery_batches_notify.web.answers import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The part of a batch that everybody who has the link may see."""

    status: BatchStatus
    sentence: str
    verdict: Verdict
    pace: Pace

    @property
    def name(self) -> str:
        """The description; "A batch" if there is no description, because the page does not show the id."""
        return name_of(self.status) if self.status.description.strip() else "A batch"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        status = self.status
        return {
            "description": status.description,
            "state": status.state,
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "total": status.total,
            "pending": status.pending,
            "succeeded": status.succeeded,
            "failures": status.failures,
            "dead": status.dead,
            "progress": round(status.progress, 4),
            "finished": status.finish_at is not None,
            "pace": self.pace.as_dict(),
        }


def read_shared(engine: Engine, token: str) -> Shared:
    """Read the batch behind a link. Raises `Problem` if the link is invalid or has expired."""
    secret = engine.settings.web_secret
    bid = read_share(secret, token, time.time()) if secret else None
    if bid is None:
        raise Problem(404, "no_such_link", "This link is not valid, or not any more.")
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        status = parse_status(snapshot, engine.settings.stall_after)
        curve = parse_curve(snapshot)
    return Shared(
        status=status,
        sentence=describe(status, now=snapshot.now),
        verdict=judge(status),
        pace=measure_pace(status, curve, snapshot.now),
    )
