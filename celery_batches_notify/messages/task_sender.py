"""The place where calls in a block are made: from a template that has proved itself, else by Celery."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from celery import Celery
from celery.backends.base import Backend
from celery.exceptions import SoftTimeLimitExceeded

from celery_batches_notify.messages.block import BlockAwareResult, Call, Frame, find_frame
from celery_batches_notify.messages.broker import refuse_other_broker
from celery_batches_notify.messages.canvas import CALLS_PARTS
from celery_batches_notify.messages.celerys_own import (
    explain_slow_app,
    find_task,
    is_from,
    is_plain_task,
    options_of,
)
from celery_batches_notify.messages.ids import new_ids
from celery_batches_notify.messages.templates import NoTemplate, Template, Templates

TEMPLATES_AT_MOST = 256
_SCALARS = (str, int, float, bool, type(None))
_KNOWN = frozenset(
    {
        "delivery_mode",
        "compression",
        "exchange",
        "expires",
        "ignore_result",
        "immediate",
        "mandatory",
        "priority",
        "queue",
        "routing_key",
        "serializer",
        "soft_time_limit",
        "time_limit",
    }
)

_UNKNOWN: Any = object()

logger = logging.getLogger(__name__)


class TaskSender:
    """Stands where Celery's `app.send_task` stood, which every `delay()` calls.

    The first two calls of each task with the same options are Celery's. The first becomes a template, the
    second is made from it as well, and compared. If they differ, all such calls are Celery's.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._wrapped: Callable[..., Any] | None = vars(app).get("send_task")  # safety: wrapped-send-task
        self._templates = Templates(because="")
        self._valid_for: Any = None

    def __call__(self, name: str, *args: Any, **options: Any) -> Any:
        """Make a call, as `Celery.send_task` does; in a block it is collected."""
        celery = self._wrapped or partial(type(self._app).send_task, self._app)
        frame = find_frame(self._app)
        if frame is not None:
            refuse_other_broker(self._app, name, options)  # safety: other-broker
        if frame is None or self._templates_of(frame).because:
            return celery(name, *args, **options)
        return self._collect(frame, lambda: celery(name, *args, **options), name, *args, **options)

    def starmap(self, task: Any, items: Sequence[Sequence[Any]]) -> None:
        """Call a task once per item in the open block, and do once what `apply_async` does for each call."""
        frame = find_frame(self._app)
        each: Callable[[tuple[Any, ...]], Call | None] | None = None
        made: list[Call] = []
        is_canvas = getattr(task, "subtask_type", None) is not None
        for item in items:
            arguments = tuple(item)
            if each is not None and (call := each(arguments)) is not None:
                made.append(call)
                continue
            if made and frame is not None:
                frame.collect(made)
                made = []
            # Celery gives some parts of a canvas the ids of its first call again.
            (task.clone() if is_canvas else task).apply_async(arguments)  # safety: mapped-canvas-copied
            if each is None and frame is not None:
                each = self._quick_call(frame, task, len(items))
        if made and frame is not None:
            frame.collect(made)

    def _quick_call(self, frame: Frame, task: Any, number: int) -> Callable[[Any], Call | None] | None:
        """Return what makes up to so many calls of this task, or None while Celery has to.

        The result backend sees none of them: it would only watch for results that nobody holds.
        """
        running = self._app.current_worker_task
        if self._templates_of(frame).because or running is not None or not is_plain_task(self._app, task):
            return None
        task = find_task(task)
        key = self._key(task.name, task, running, options_of(task))
        template = _find_template(frame.templates.by_key, key)
        if template is None or template is _UNKNOWN or not template.is_proven:
            return None
        check = task.__header__ if task.typing else None
        prepare = frame.owner.prepare if frame.owner is not None else None
        ids, make = new_ids(number), template.make

        def each(arguments: tuple[Any, ...]) -> Call | None:
            try:
                if check is not None:
                    check(*arguments)
                call: Call = make(ids.pop(), arguments, None)
            except SoftTimeLimitExceeded:  # safety: soft-limit-in-map
                raise
            except Exception:  # noqa: BLE001 - Celery raises it again, or can do what a template cannot
                return None
            if prepare is not None:
                prepare(call)
            return call

        return each

    def _collect(
        self,
        frame: Frame,
        by_celery: Callable[[], Any],
        name: str,
        args: Any = None,
        kwargs: Any = None,
        *more: Any,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        result_cls: Any = None,
        shadow: str | None = None,
        task_type: Any = None,
        **options: Any,
    ) -> Any:
        running = self._app.current_worker_task
        is_own_id = task_id is None or type(task_id) is str
        if more or producer or link or link_error or shadow or not is_own_id or (task_id and running):
            return by_celery()
        key = self._key(name, task_type, running, options)
        by_key = frame.templates.by_key
        template = _find_template(by_key, key)
        if template is None or (kwargs and type(kwargs) is not dict):
            return by_celery()
        if template is _UNKNOWN or not template.is_proven:
            return self._learn(frame, by_celery, key, args or (), kwargs)
        call = _make(template, task_id or frame.new_id(), args or (), kwargs)
        if call is None:
            return by_celery()
        if frame.owner is not None:
            frame.owner.prepare(call)
        result = (result_cls or self._app.AsyncResult)(call.task_id)
        if isinstance(result, BlockAwareResult):
            frame.watch_later(result, is_kept=template.keeps_result)
        elif template.keeps_result:
            self._app.backend.on_task_call(None, call.task_id)
        if not frame.collect([call]):  # it has been closed meanwhile
            return by_celery()
        result.ignored = template.ignore_result
        if running:
            running.add_trail(result)
        return result

    def _key(self, name: str, task: Any, running: Any, options: dict[str, Any]) -> Any:
        """Return what calls of one template have in common, or None if such calls have none."""
        if not _KNOWN.issuperset(options) or options.get("expires") is not None:
            return None
        origin = None
        if running is not None:
            if running.name in CALLS_PARTS:  # whose parts are its successors
                return None
            origin = running.request.id, running.request.root_id
        # 1, 1.0 and True are equal, but not in a message.
        values = tuple(options.values())
        return name, task, self._app.thread_oid, origin, tuple(options), values, tuple(map(type, values))

    def _learn(self, frame: Frame, by_celery: Callable[[], Any], key: Any, args: Any, kwargs: Any) -> Any:
        """Let Celery make a call, and make it from its template too; the first call becomes the template."""
        result = by_celery()
        call, by_key = frame.last(), frame.templates.by_key
        if call is None or call.task_id != getattr(result, "id", None):
            return result
        template = by_key.get(key)
        try:
            if template is not None:
                template.prove(call, args, kwargs)
            elif len(by_key) < TEMPLATES_AT_MOST:
                by_key[key] = self._template_of(call, key)
        except Exception as exc:  # noqa: BLE001 - whatever it is, Celery's own calls are right
            by_key[key] = None
            why = str(exc) if isinstance(exc, NoTemplate) else repr(exc)
            logger.info("calls of %s are made by Celery one by one: %s", call.name, why)
        return result

    def _template_of(self, call: Call, key: Any) -> Template:
        *_, types = key
        if not all(kind in _SCALARS for kind in types):
            raise NoTemplate("options that are no plain values")
        template = Template(self._app, call)
        if not template.ignore_result:
            on_call = type(self._app.backend).on_task_call
            template.keeps_result = on_call is not Backend.on_task_call
            if template.keeps_result and not is_from("celery.backends.redis", on_call):
                raise NoTemplate("a result backend that sees each call")
        return template

    def _templates_of(self, frame: Frame) -> Templates:
        """Return the templates of calls in a frame, which stay the same for all of it."""
        if frame.templates is None:
            try:
                because = explain_slow_app(self._app, self._wrapped)
                valid_for = because, *self._surroundings()
            except Exception as exc:  # noqa: BLE001 - of another Celery, nothing is known
                because = repr(exc)
                valid_for = (because,)
            if valid_for != self._valid_for:
                self._templates, self._valid_for = Templates(because=because), valid_for
                if because:
                    logger.info("calls in batches are made by Celery one by one: %s", because)
            frame.templates = self._templates
        templates: Templates = frame.templates
        return templates

    def _surroundings(self) -> tuple[Any, ...]:
        """Return what templates are made of, and valid for."""
        conf: Any = self._app.conf
        amqp: Any = self._app.amqp
        return (
            os.getpid(),  # a message's `origin`  # safety: template-origin
            amqp.router,
            tuple(amqp.queues),
            amqp.argsrepr_maxsize,
            amqp.kwargsrepr_maxsize,
            conf.get("task_repr_maxlevels"),
            conf.task_serializer,
            conf.task_compression,
            conf.task_default_queue,
        )


def _make(template: Template, task_id: str, args: Any, kwargs: Any) -> Call | None:
    """Make a call, or return None: then Celery raises the error again, or can do what a template cannot."""
    try:
        return template.make(task_id, args, kwargs)
    except SoftTimeLimitExceeded:  # safety: soft-limit-in-call
        raise
    except Exception:  # noqa: BLE001 - as the docstring says
        return None


def _find_template(by_key: Mapping[Any, Template | None], key: Any) -> Any:
    """Return the template of calls with this key; None if they cannot have one, or `_UNKNOWN`."""
    try:
        return None if key is None else by_key.get(key, _UNKNOWN)
    except TypeError:  # an option that is no plain value
        return None
