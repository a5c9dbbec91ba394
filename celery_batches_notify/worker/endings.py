"""How executions ended of which no signal tells, or of which one tells too much. Pure: no I/O."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import celery
from billiard import common as billiard_common
from celery.exceptions import Retry, TimeLimitExceeded
from celery.states import IGNORED, PROPAGATE_STATES, REJECTED, SUCCESS
from celery.utils.serialization import UnpickleableExceptionWrapper

from celery_batches_notify.membership import Outcome
from celery_batches_notify.worker import outcomes
from celery_batches_notify.worker.stored_states import STORED

# Before 5.7 the worker's main process may fall silent over an exit that billiard 4.3 hands it as such.
_terminated: Callable[[], bool] | None = getattr(billiard_common, "terminate_handler_fired", None)
_MAIN_TELLS_OF_EXITS = celery.VERSION >= (5, 7) or _terminated is None


def unsignalled(task: Any, state: str | None, retval: Any, *, goes_on: bool, alone: bool) -> Outcome | None:
    """How it ended, where only `task_postrun` tells; None where it runs again, or another signal tells.

    Args:
        task: The task, whose request is the one that ended.
        state: Its state; None where something other than an `Exception` went through Celery.
        retval: What it returned or raised.
        goes_on: Whether its retry or replacement has left under its own id.
        alone: Whether no other process stands by that learns of an exit, as in every pool but prefork.
    """
    request = task.request
    if state == SUCCESS:  # the result backend was down before Celery could say so
        return None if getattr(request, "batches_reported", False) else outcomes.succeeded()
    if state == IGNORED:
        return None if goes_on else _ignored(task, retval)
    if state == REJECTED:
        requeued = getattr(retval, "requeue", False) and _is_late(task)
        return None if requeued else outcomes.dead(request, task.name, "rejected", retval)
    exc = sys.exc_info()[1]
    if state is None and exc is not None and not isinstance(exc, Exception):
        return _exited(task, exc, alone=alone)
    return None


def internal_error(request: Any, task: str, exc: BaseException, backtrace: object) -> Outcome:
    """What Celery failed over: where it was a retry, that was published before."""
    cause: BaseException | None = exc
    while (cause := cause.__context__ if cause else None) is not None:
        if isinstance(cause, Retry):
            return outcomes.failing(request, task, cause.exc or cause, backtrace)
    return outcomes.dead(request, task, "internal error", exc, backtrace)


def runs_again(task: Any, exc: object) -> bool:
    """Whether the message of a task that hit its hard limit goes back to the broker."""
    acks = getattr(task, "acks_on_timeout", task.acks_on_failure_or_timeout)  # the first came with 5.7
    return isinstance(exc, TimeLimitExceeded) and task.acks_late and acks is False


def raised(exc: object) -> object:
    """What the task itself raised, where Celery tells of a stand-in for it that can be pickled."""
    own = sys.exc_info()[1]  # a failure is told while it is handled
    stands_in = isinstance(exc, UnpickleableExceptionWrapper) or isinstance(own, type(exc))
    return own if own is not None and stands_in else exc


def _ignored(task: Any, ignore: Any) -> Outcome:
    """As the task left itself."""
    state, result = getattr(task.request, STORED, (None, None))
    if state not in PROPAGATE_STATES:
        return outcomes.succeeded()
    return outcomes.dead(task.request, task.name, "failed", _stored_error(result) or ignore)


def _stored_error(result: Any) -> BaseException | None:
    """The error in what a task stored as its failure: an exception, or Celery's way to write one down."""
    if isinstance(result, dict) and isinstance(result.get("exc_type"), str):
        module, message = result.get("exc_module") or "builtins", result.get("exc_message")
        return UnpickleableExceptionWrapper(str(module), result["exc_type"], (), str(message))
    return result if isinstance(result, BaseException) else None


def _exited(task: Any, exc: BaseException, *, alone: bool) -> Outcome | None:
    """It raised `SystemExit` or the like, was terminated, or hit the hard limit of gevent's pool."""
    gevent = sys.modules.get("gevent")
    if gevent and isinstance(exc, gevent.Timeout):
        exc = TimeLimitExceeded(exc.seconds)
        gone = not runs_again(task, exc)
    elif gevent and isinstance(exc, gevent.GreenletExit):
        gone = True  # Celery acknowledges what it ended so, late or not
    elif alone:
        gone = not _is_late(task)
    else:  # what was terminated, the main process knows about
        gone = not _MAIN_TELLS_OF_EXITS and _terminated is not None and not _terminated()
    return outcomes.dead(task.request, task.name, "exited", exc) if gone else None


def _is_late(task: Any) -> bool:
    """Whether there is a message that the broker still holds."""
    return bool(task.acks_late) and not task.request.is_eager
