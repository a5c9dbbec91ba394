"""Calls of apps without `Batches`: an open block refuses them, because no batch would count them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, _state
from celery.app.amqp import AMQP
from kombu.utils.objects import cached_property

from celery_batches_notify.messages.block import refuse_foreign_call
from celery_batches_notify.messages.celerys_own import is_from
from celery_batches_notify.messages.sender import Sender

SENDER = "send_task_message"


class RefusingSender:
    """Sends an app's messages as Celery does, unless the context has an open block of another app."""

    def __init__(self, app: Celery, send: Callable[..., Any]) -> None:
        self._app = app
        self.send = send

    def __call__(self, producer: Any, name: str, message: Any, **options: Any) -> Any:
        """Send a message. Raises `NotAMember` in a block that cannot collect it."""
        running = _state.get_current_worker_task()
        task_id = (message.headers or message.body).get("id")  # protocol 1 has it in the body
        if running is None or running.request.id != task_id:  # safety: foreign-retry
            refuse_foreign_call(self._app, name)  # safety: plain-app-call
        return self.send(producer, name, message, **options)


def refuse_calls_of_other_apps() -> None:
    """Let open blocks refuse calls of apps without `Batches`, also of those made later. Safe to repeat.

    An app that gets `Batches` has a sender of its own, which takes the place of this one.
    """
    if getattr(vars(AMQP)[SENDER], "func", None) is not send_task_message:
        refusing: Any = cached_property(send_task_message)
        refusing.__set_name__(AMQP, SENDER)
        setattr(AMQP, SENDER, refusing)
    apps = _state._get_active_apps()  # type: ignore[attr-defined]
    for app in [*apps]:
        amqp = vars(app).get("amqp")  # as it is, because making it reads the app's configuration
        sender = None if amqp is None else vars(amqp).get(SENDER)
        if sender is not None and not isinstance(sender, Sender | RefusingSender):  # safety: early-plain-app
            amqp.send_task_message = RefusingSender(app, sender)


def find_wrapped_sender(app: Celery) -> Callable[..., Any] | None:
    """Return what somebody else has put into the place of this app's sender, such as a tracer's; or None."""
    amqp = vars(app).get("amqp")
    sender = None if amqp is None else vars(amqp).get(SENDER)
    if isinstance(sender, RefusingSender):
        sender = sender.send
    return None if is_from("celery.app.amqp", sender) else sender  # safety: wrapped-sender


def send_task_message(amqp: Any) -> RefusingSender:
    """Return what sends the messages of an app that has no `Batches`."""
    return RefusingSender(amqp.app, amqp._create_task_sender())
