"""Refuses Django's `delay_on_commit` in a block, because the call would leave after the block."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from celery import Celery

from celery_batches_notify.errors import NotAMember
from celery_batches_notify.messages.block import find_frame

_METHODS = ("delay_on_commit", "apply_async_on_commit")


def refuse_on_commit_in_blocks(app: Celery) -> None:
    """Make these methods of Celery's task class for Django raise `NotAMember` in a block. Safe to repeat."""
    app.Task  # noqa: B018 - Celery loads the class at its first use
    module = sys.modules.get("celery.contrib.django.task")
    task: Any = getattr(module, "DjangoTask", None)
    for name in _METHODS if task is not None else ():
        method = vars(task)[name]
        if not hasattr(method, "batches_refuses"):
            setattr(task, name, _refusing(method))


def _refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(task: Any, *args: Any, **kwargs: Any) -> Any:
        if find_frame(task.app) is not None:
            raise NotAMember(
                f"{task.name}.{method.__name__}() in a `with batch:` block would leave after it, not as "
                "a member: open the block in transaction.on_commit(...), and call delay() in it"
            )
        return method(task, *args, **kwargs)

    call.batches_refuses = True  # type: ignore[attr-defined]
    return call
