"""Group the failures of a batch, and restrict them to the part that a receiver may see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from celery_batches_notify.model import Failure, Notification
from celery_batches_notify.notifiers.references import is_reference
from celery_batches_notify.text import one_line

LEVELS = ("none", "counts", "messages", "full")
FULL = LEVELS[-1]

_NAME_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures of one class in one task: how many are known, and the first."""

    count: int
    first: Failure

    @property
    def title(self) -> str:
        """Count, class and task: `15 × IntegrityError in import_row`."""
        error, task = (_last(name) for name in (self.first.error_class, self.first.task))
        return (f"{self.count:,} × " if self.count > 1 else "") + f"{error} in {task}"


def group_failures(failures: Iterable[Failure]) -> tuple[FailureGroup, ...]:
    """Group failures by class and task, the most frequent first."""
    groups: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.error_class, failure.task), []).append(failure)
    found = [FailureGroup(count=len(group), first=group[0]) for group in groups.values()]
    return tuple(sorted(found, key=lambda group: -group.count))


def check_failures(level: object) -> None:
    """Raise `ValueError` unless this is one of `LEVELS`."""
    if level not in LEVELS and not is_reference(level):
        raise ValueError(f"failures must be one of {', '.join(LEVELS)}, got {level!r}")


def restrict(notification: Notification, level: str) -> Notification:
    """Return a notification with the part of the failures that its receiver may see.

    Args:
        notification: The whole notification.
        level: `none`: how many tasks failed. `counts`: also the errors and their tasks. `messages`: also the
            messages. `full`: also backtraces, attempts and task ids.
    """
    if level == FULL:  # safety: failures-level
        return notification
    hidden = {"backtrace": None} if level == "messages" else {"backtrace": None, "error_message": ""}
    seen = () if level == "none" else notification.status.failure_info
    failures = tuple(replace(failure, **hidden) for failure in seen)
    return replace(notification, status=replace(notification.status, failure_info=failures))


def _last(name: str) -> str:
    line = one_line(name, 10 * _NAME_CHARACTERS)
    return one_line(line.rpartition(".")[2] or line, _NAME_CHARACTERS) or "?"
