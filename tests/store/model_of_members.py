"""One member and what is said of it, in plain Python: a part of the model of batches."""

from __future__ import annotations

from dataclasses import dataclass

from celery_batches_notify.membership import State

NEVER_PUBLISHED = "never published"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What somebody says of one execution of one member."""

    index: int
    task_id: str
    state: State
    attempt: int = 1
    round: int = 0
    reason: str = "failed"
    sendable: bool = True

    @property
    def stamp(self) -> tuple[int, int]:
        return self.round, self.attempt


@dataclass(slots=True)
class Member:
    """One member.

    `kept` is the round in which its call is to be sent again: 0 while nobody claimed it. `why` says of a dead
    one why it cannot be sent again.
    """

    task_id: str
    is_batch: bool = False
    state: State = State.WAITING
    stamp: tuple[int, int] = (0, 0)
    kept: int | None = None
    why: str = ""

    @property
    def ended(self) -> bool:
        return self.state in (State.DEAD, State.SUCCEEDED)

    def learns_from(self, report: Report) -> bool:
        """Success wins and stays; a failure counts once per attempt, but failing may turn into dead."""
        if report.reason == NEVER_PUBLISHED and self.state is not State.WAITING:
            return False
        if self.state is State.SUCCEEDED or report.state is State.SUCCEEDED:
            return self.state is not State.SUCCEEDED
        ends_now = self.state is State.FAILING and report.state is State.DEAD
        return report.stamp > self.stamp or (report.stamp == self.stamp and ends_now)
