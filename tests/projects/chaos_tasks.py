"""The tasks of all scenarios: each writes down that it ran before anybody can count it."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from tests.chaos.journal import note

RETRY_SECONDS = 0.2


def member(self: Any, bid: str, seconds: float = 0, failures: int = 0, *, dies: bool = False) -> None:
    """Take so long, fail so many times, and then succeed or die."""
    note("start", bid, self.request.id, self.request.retries)
    time.sleep(seconds)
    if self.request.retries < failures:
        note("raise", bid, self.request.id, self.request.retries)
        raise self.retry(countdown=RETRY_SECONDS, max_retries=failures)
    if dies:
        note("die", bid, self.request.id, self.request.retries)
        raise ValueError("as it was told to")
    note("ok", bid, self.request.id, self.request.retries)


def told(self: Any, status: dict[str, Any], event: str, failures: int = 0) -> None:
    """Be called back; fail so many times first."""
    state, retries = status["state"], self.request.retries
    note("called", status["bid"], self.request.id, event, state, retries, time.time())
    if self.request.retries < failures:
        raise self.retry(countdown=RETRY_SECONDS, max_retries=failures)


def declare_tasks(app: Celery) -> None:
    """Give an app the tasks."""
    for task in (member, told):
        app.task(task, name=f"chaos.{task.__name__}", shared=False, bind=True)
