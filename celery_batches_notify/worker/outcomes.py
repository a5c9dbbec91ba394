"""How a run of a task ended, from what Celery's signals report, and from what they leave out."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any
from weakref import ref

import celery
from billiard import common as billiard_common
from celery import Task
from celery.exceptions import Retry, TimeLimitExceeded
from celery.states import IGNORED, PROPAGATE_STATES, REJECTED, SUCCESS
from celery.utils.serialization import UnpickleableExceptionWrapper

from celery_batches_notify.membership import JUST_SUCCEEDED, Outcome, State
from celery_batches_notify.messages.run import run_of
from celery_batches_notify.model import Failure

CLASS_AT_MOST = 200
MESSAGE_AT_MOST = 2000
BACKTRACE_AT_MOST = 4000
BACKTRACE_MESSAGE_AT_MOST = 500
# Before 5.7 the worker's main process may miss an exit that billiard 4.3 passes on as a plain `SystemExit`.
_terminated: Callable[[], bool] | None = getattr(billiard_common, "terminate_handler_fired", None)
_MAIN_REPORTS_EXITS = celery.VERSION >= (5, 7) or _terminated is None


def failing(request: Any, task: str, exc: BaseException, backtrace: object) -> Outcome:
    """Return the outcome of a run that raised and will be tried again."""
    return _failed(State.FAILING, None, request, task, exc, backtrace)


def retried(request: Any, task: str, exc: BaseException, backtrace: object) -> Outcome:
    """Return the outcome of a run that raised `Retry`.

    If no message has left, a task that it called as a function asked for the retry, and none comes.
    """
    run = run_of(request)
    is_run_here = run.began_at is not None and not request.is_eager  # else another sends the retry
    if is_run_here and not run.goes_on and not run.is_replaced:  # safety: retry-left
        return dead(request, task, "failed", exc, backtrace)
    return failing(request, task, exc, backtrace)


def dead(request: Any, task: str, reason: str, exc: object, backtrace: object = None) -> Outcome:
    """Return the outcome of a run whose task will not run again by itself, for this reason."""
    return _failed(State.DEAD, reason, request, task, exc, backtrace)


def unsignalled(task: Any, state: str | None, retval: Any, *, alone: bool) -> Outcome | None:
    """Return how a run ended that only `task_postrun` reports; None if it runs again or another signal did.

    Args:
        task: The task, whose request is the one that ended.
        state: Its state; None if it raised something other than an `Exception`.
        retval: Its result or its exception.
        alone: Whether no other process learns that this one exits, as in every pool but prefork.
    """
    run = run_of(task.request)
    if state == SUCCESS:  # the result backend was down before Celery could send `task_success`
        return None if run.returned else JUST_SUCCEEDED
    if state == IGNORED:
        return None if run.goes_on else _ignored(task, retval)
    if state == REJECTED:
        requeued = getattr(retval, "requeue", False) and _acks_late(task)
        return None if requeued else dead(task.request, task.name, "rejected", retval)
    exc = sys.exc_info()[1]
    if state is not None or exc is None:
        return None
    return _propagated(task, exc) if isinstance(exc, Exception) else _exited(task, exc, alone=alone)


def internal_error(request: Any, task: str, exc: BaseException, backtrace: object) -> Outcome:
    """Return the outcome of a run around which Celery failed; a retry was published before it did."""
    cause: BaseException | None = exc
    while (cause := cause.__context__ if cause else None) is not None:
        if isinstance(cause, Retry):
            return failing(request, task, cause.exc or cause, backtrace)
    return dead(request, task, "internal error", exc, backtrace)


def runs_again(task: Any, exc: object) -> bool:
    """Whether the message of a task that hit its hard limit goes back to the broker."""
    # `acks_on_timeout` came with Celery 5.7.
    acks = getattr(task, "acks_on_timeout", task.acks_on_failure_or_timeout)
    return isinstance(exc, TimeLimitExceeded) and task.acks_late and acks is False


def raised(exc: object) -> object:
    """Return the task's own exception if Celery reports a stand-in for it that can be pickled."""
    own = sys.exc_info()[1]  # Celery reports a failure while it handles it
    stands_in = isinstance(exc, UnpickleableExceptionWrapper) or isinstance(own, type(exc))
    return own if own is not None and stands_in else exc


def watch_stored_states(task: Task[..., Any]) -> None:
    """Note which state a running task stores of itself, because `Ignore` leaves the task in that state."""
    backend: Any = task.backend
    if "store_result" not in vars(backend):  # Celery makes a backend per thread and greenlet
        backend.store_result = _NotingStore(backend, task.app)


class _NotingStore:
    """Replaces one backend's `store_result`, without a reference that would keep the backend alive."""

    def __init__(self, backend: Any, app: Any) -> None:
        self._backend = ref(backend)
        self._store_result = type(backend).store_result
        self._app = app

    def __call__(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        task = self._app.current_worker_task
        if task is not None and task.request.id == task_id:
            run_of(task.request).stored = (state, result)
        return self._store_result(self._backend(), task_id, result, state, *args, **kwargs)


def _ignored(task: Any, ignore: Any) -> Outcome:
    """Return the outcome that the task stored of itself before it raised `Ignore`."""
    state, result = run_of(task.request).stored
    if state not in PROPAGATE_STATES:
        return JUST_SUCCEEDED
    return dead(task.request, task.name, "failed", _stored_error(result) or ignore)


def _stored_error(result: Any) -> BaseException | None:
    """Return the error that a task stored as its failure: an exception, or Celery's JSON form of one."""
    if isinstance(result, dict) and isinstance(result.get("exc_type"), str):
        module, message = result.get("exc_module") or "builtins", result.get("exc_message")
        return UnpickleableExceptionWrapper(str(module), result["exc_type"], (), str(message))
    return result if isinstance(result, BaseException) else None


def _propagated(task: Any, exc: Exception) -> Outcome | None:
    """Return the outcome of an eager run whose caller gets its error; None if another signal reports it."""
    if task.request.is_eager:  # safety: eager-propagates
        own = exc.exc if isinstance(exc, Retry) and exc.exc else exc  # a retry that is raised is not made
        return dead(task.request, task.name, "failed", own, traceback.format_exc())
    return None


def _exited(task: Any, exc: BaseException, *, alone: bool) -> Outcome | None:
    """Return the outcome of a run that `SystemExit` or the like, a termination or gevent's hard limit ended.

    None means that the task runs again, or that the main process reports it.
    """
    gevent = sys.modules.get("gevent")
    if gevent and isinstance(exc, gevent.Timeout):
        exc = TimeLimitExceeded(exc.seconds)
        gone = not runs_again(task, exc)
    elif gevent and isinstance(exc, gevent.GreenletExit):
        gone = True  # Celery acknowledges a task that it ends this way, early or late
    elif alone:
        gone = not _acks_late(task)
    else:  # the main process reports a task that it terminated
        gone = not _MAIN_REPORTS_EXITS and _terminated is not None and not _terminated()
    return dead(task.request, task.name, "exited", exc) if gone else None


def _acks_late(task: Any) -> bool:
    """Whether there is a message that the broker still holds."""
    return bool(task.acks_late) and not task.request.is_eager


def _failed(
    state: State, reason: str | None, request: Any, task: str, exc: object, backtrace: object
) -> Outcome:
    retries, message = request.retries or 0, _message_of(exc)
    failure = Failure(
        task_id=str(request.id),
        task=str(task)[:CLASS_AT_MOST],
        error_class=_class_of(exc)[:CLASS_AT_MOST],
        error_message=_cap(message, MESSAGE_AT_MOST),
        backtrace=_cap(_shorten_backtrace(str(backtrace), message), BACKTRACE_AT_MOST) if backtrace else None,
        retries=retries,
    )
    return Outcome(state=state, attempt=retries + 1, reason=reason, failure=failure)


def _class_of(exc: object) -> str:
    name = getattr(exc, "exc_cls_name", None)  # Celery's stand-in for an exception it cannot pickle
    if isinstance(name, str):
        module = getattr(exc, "exc_module", None)
    else:
        module, name = type(exc).__module__, type(exc).__qualname__
    return name if module in ("builtins", None) else f"{module}.{name}"


def _message_of(exc: object) -> str:
    try:
        return str(exc)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(exc).__name__}.__str__ raised {type(broken).__name__}>"


def _shorten_backtrace(backtrace: str, message: str) -> str:
    """Keep the last frames and the beginning of the message, which follows them and may be long."""
    if len(backtrace) <= BACKTRACE_AT_MOST:
        return backtrace
    text = backtrace.rstrip()
    end = len(text) - len(message) if message and text.endswith(message) else _end_of_frames(text)
    message = text[end:]
    if len(message) > BACKTRACE_MESSAGE_AT_MOST:
        message = message[: BACKTRACE_MESSAGE_AT_MOST - 1] + "…"
    return text[:end][len(message) - BACKTRACE_AT_MOST :] + message


def _end_of_frames(text: str) -> int:
    """Return the end of the last frame; a frame's lines of code are indented."""
    end = text.rfind('\n  File "') + 1
    while end and text.startswith("  ", end):
        end = text.find("\n", end) + 1
    return end or len(text)


def _cap(text: str, length: int) -> str:
    """Keep the first characters, without the surrogates that JSON cannot hold."""
    return text[:length].encode("utf-8", "replace").decode("utf-8")
