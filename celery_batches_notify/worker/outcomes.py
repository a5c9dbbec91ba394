"""How an execution ended, read from what Celery tells. Pure: no I/O."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery_batches_notify.membership import Outcome, State
from celery_batches_notify.model import Failure

CLASS_AT_MOST = 200
MESSAGE_AT_MOST = 2000
BACKTRACE_AT_MOST = 4000
BACKTRACE_MESSAGE_AT_MOST = 500


@cache
def succeeded() -> Outcome:
    """It returned."""
    return Outcome(state=State.SUCCEEDED)


def failing(request: Any, task: str, exc: BaseException, backtrace: object) -> Outcome:
    """It raised, and will be tried again."""
    return _failed(State.FAILING, None, request, task, exc, backtrace)


def dead(request: Any, task: str, reason: str, exc: object, backtrace: object = None) -> Outcome:
    """It will not run again by itself, for this reason."""
    return _failed(State.DEAD, reason, request, task, exc, backtrace)


def attempt_of(request: Any) -> int:
    """Which attempt this was, from 1: of a request, or of a message's headers."""
    retries = request.get("retries") if isinstance(request, dict) else getattr(request, "retries", 0)
    return (retries or 0) + 1


def _failed(
    state: State, reason: str | None, request: Any, task: str, exc: object, backtrace: object
) -> Outcome:
    attempt, message = attempt_of(request), _message_of(exc)
    task_id = request.get("id") if isinstance(request, dict) else request.id
    failure = Failure(
        task_id=str(task_id),
        task=str(task)[:CLASS_AT_MOST],
        error_class=_class_of(exc)[:CLASS_AT_MOST],
        error_message=_cap(message, MESSAGE_AT_MOST),
        backtrace=_cap(_shorten_backtrace(str(backtrace), message), BACKTRACE_AT_MOST) if backtrace else None,
        retries=attempt - 1,
    )
    return Outcome(state=state, attempt=attempt, reason=reason, failure=failure)


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
    """Keep the last frames and the beginning of the message, which stands behind them and may be long."""
    if len(backtrace) <= BACKTRACE_AT_MOST:
        return backtrace
    text = backtrace.rstrip()
    end = len(text) - len(message) if message and text.endswith(message) else _end_of_frames(text)
    said = text[end:]
    if len(said) > BACKTRACE_MESSAGE_AT_MOST:
        said = said[: BACKTRACE_MESSAGE_AT_MOST - 1] + "…"
    return text[:end][len(said) - BACKTRACE_AT_MOST :] + said


def _end_of_frames(text: str) -> int:
    """Find where the last frame ends; its lines of code are indented."""
    end = text.rfind('\n  File "') + 1
    while end and text.startswith("  ", end):
        end = text.find("\n", end) + 1
    return end or len(text)


def _cap(text: str, length: int) -> str:
    """Keep the first characters; surrogates do not survive JSON."""
    return text[:length].encode("utf-8", "replace").decode("utf-8")
