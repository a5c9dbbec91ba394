"""Whether an app makes and sends its calls as Celery does, so that somebody else may do the same, faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery.app.amqp import AMQP
from celery.app.routes import MapRoute, Router
from celery.local import Proxy, maybe_evaluate

_TASK = ("apply_async", "delay", "shadow_name", "_get_exec_options")


def is_from(module: str, function: Callable[..., Any] | None) -> bool:
    """Whether a function was written in this module, and nobody has wrapped it."""
    return getattr(function, "__globals__", {}).get("__name__") == module


def explain_slow_app(app: Celery, send_task: Callable[..., Any] | None = None) -> str:
    """Return why calls of an app must be made by Celery one by one, or an empty text.

    Args:
        app: The app.
        send_task: What somebody put into the place of this app's `send_task`.
    """
    conf: Any = app.conf
    amqp: Any = app.amqp
    is_own = type(amqp) is AMQP and is_from("celery.app.amqp", AMQP.as_task_v2)
    reasons = {
        "task_always_eager is set": conf.task_always_eager,
        "task_send_sent_event is set": conf.task_send_sent_event,
        "its messages are not those of Celery's protocol 2": conf.task_protocol != 2 or not is_own,
        "somebody has replaced send_task()": not is_from("celery.app.base", send_task or type(app).send_task),
        "it has a router of its own": type(amqp.router) is not Router,
        "task_routes has a function, which may look at the arguments": not all(
            isinstance(route, MapRoute) for route in amqp.routes
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def find_task(given: Any) -> Any:
    """Return the task itself, behind the proxies that `app.task` and `shared_task` return."""
    task = maybe_evaluate(given)
    return task._get_current_object() if type(task) is Proxy else task


def is_plain_task(app: Celery, given: Any) -> bool:
    """Whether calling this task does nothing but what Celery's own `apply_async` does."""
    task = find_task(given)
    kind = type(task)
    if not isinstance(task, Task) or task.app is not app or getattr(kind, "__v2_compat__", False):
        return False
    if any(name in vars(task) or not is_from("celery.app.task", getattr(kind, name)) for name in _TASK):
        return False
    if task.soft_time_limit and task.time_limit and task.soft_time_limit > task.time_limit:
        return False  # which apply_async refuses
    return getattr(task, "_dump_pydantic_arguments", None) is None


def options_of(task: Any) -> dict[str, Any]:
    """Return the options that `apply_async` of a plain task passes on, in its order."""
    options = dict(task._get_exec_options())
    options.setdefault("ignore_result", task.ignore_result)
    return options
