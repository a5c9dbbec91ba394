"""Apps without batches: a block refuses calls of their tasks, because it could not count them."""

from __future__ import annotations

from typing import Any

from celery import Celery, _state

from celery_batches_notify.messages.block import refuse_foreign_call
from celery_batches_notify.messages.sender import Send, Sender


class GuardedSend:
    """Sends an app's task messages as before, but refuses them in the block of another app's batch."""

    def __init__(self, app: Celery, send: Send | None) -> None:
        self._app = app
        self._send = send

    def __call__(self, producer: Any, name: str, message: Any, **options: Any) -> Any:
        """Send a message. Raises `NotAMember`."""
        refuse_foreign_call(self._app, name)  # safety: guarded-app
        if self._send is None:  # not before, because it reads the app's configuration
            self._send = self._app.amqp._create_task_sender()  # type: ignore[attr-defined]
        return self._send(producer, name, message, **options)


def guard_other_apps() -> None:
    """Make the calls of all apps without `Batches(app)` raise `NotAMember` in a block. Safe to repeat."""
    apps = _state._get_active_apps()  # type: ignore[attr-defined]
    for app in [*apps]:
        send = vars(app.amqp).get("send_task_message")
        if not isinstance(send, Sender | GuardedSend):
            app.amqp.send_task_message = GuardedSend(app, send)
