"""Calls that wait for a transaction's commit: a batch's `on_commit`, and Django's `delay_on_commit`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from celery import Celery

from celery_batches_notify.errors import ConfigurationError, NotAMember
from celery_batches_notify.messages.block import find_frame

OnCommit = Callable[[Callable[[], None]], object]

_METHODS = ("delay_on_commit", "apply_async_on_commit")


def check_on_commit(on_commit: object, autoflush: object) -> None:
    """Raise `ConfigurationError` unless this can run a function at a commit, and no call leaves before."""
    if not callable(on_commit):
        raise ConfigurationError(
            "on_commit must be a function such as django.db.transaction.on_commit, which is given a function "
            f"to run at the commit, got {on_commit!r}"
        )
    if autoflush is not None:
        raise ConfigurationError("autoflush publishes calls before the commit: give either it or on_commit")


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
                "a member: call delay(), and give the batch on_commit=transaction.on_commit"
            )
        return method(task, *args, **kwargs)

    call.batches_refuses = True  # type: ignore[attr-defined]
    return call
