"""What batches must know of tasks that other packages make special: buffered calls, and calls with a lock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from celery import Celery

from celery_batches_notify.errors import NotAMember
from celery_batches_notify.messages.canvas import walk_message

if TYPE_CHECKING:
    from celery_batches_notify.messages.block import Call

logger = logging.getLogger(__name__)


def is_buffered(app: Celery, name: str) -> bool:
    """Whether a task is one of celery-batches: workers buffer its calls, and report none of them."""
    return name in app.tasks and _is_of("celery_batches", app.tasks[name])


def refuse_buffered(app: Celery, name: str, message: Any) -> None:
    """Raise `NotAMember` if a call, or one that follows it in its canvas, is one that workers buffer."""
    for each in (name, *(str(signature.get("task")) for signature in walk_message(name, message))):
        if is_buffered(app, each):
            raise NotAMember(
                f"{each} is a task of celery-batches, which reports no single call, so the batch would wait "
                "for it for ever: call it outside the block, or in `with outside_batch():`"
            )


def release_locks(app: Celery, calls: Iterable[Call]) -> None:
    """Release what celery-singleton and celery-once locked for calls that will never be sent.

    Both lock when a call is made and release when it has run, so that a dropped call would refuse all equal
    ones, with celery-singleton for ever.
    """
    release_of = {}
    for call in calls:
        if call.name not in release_of:
            release_of[call.name] = _find_release(app.tasks.get(call.name))
        release = release_of[call.name]
        if release is None:
            continue
        args, kwargs, _ = call.message.body
        try:
            release(args, kwargs)  # safety: dropped-lock
        except Exception as exc:  # noqa: BLE001 - the caller gets the error that dropped the calls
            logger.warning("the lock of a call of %s is not released: %s", call.name, exc)


def _find_release(task: Any) -> Callable[[Any, Any], object] | None:
    if _is_of("celery_singleton", task):
        release: Callable[[Any, Any], object] = task.release_lock
        return release
    if _is_of("celery_once", task):
        return lambda args, kwargs: task.once_backend.clear_lock(task.get_key(args, kwargs))
    return None


def _is_of(package: str, task: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == package for kind in type(task).__mro__)
