"""The one place that sees every message on its way out: into the open block, or to the broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol

from celery import Celery
from kombu import serialization
from kombu.exceptions import EncodeError
from kombu.utils import json

from celery_batches_notify.errors import UnserialisableCall
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages import successors
from celery_batches_notify.messages.block import Call, find_frame, refuse_foreign_call
from celery_batches_notify.messages.canvas import mark_message
from celery_batches_notify.messages.headers import (
    HEADER,
    DeliveryRef,
    current_member,
    read_header,
    read_request,
    strip_header,
    write_header,
)

Send = Callable[..., Any]


class InFlightNotes(Protocol):
    """What a worker's lease is told of the messages that a running member sends."""

    def note_departure(self, request: Any, member: Membership) -> None:
        """Its own retry or replacement has left."""
        ...

    def note_successors(self, request: Any, member: Membership, sent: tuple[Membership, ...]) -> None:
        """It has published these."""
        ...


class Sender:
    """Stands where Celery's `app.amqp.send_task_message` stood."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.heartbeat: Callable[[], InFlightNotes] | None = None  # a worker's
        self.held: Mapping[str, Any] = {}  # the members whose messages this process received, by id

    def __call__(self, producer: Any, name: str, message: Any, **options: Any) -> Any:
        """Send a message, or give it to the block that collects."""
        message.headers.update(options.pop("headers", None) or {})  # as Celery itself does later
        task_id = message.headers["id"]
        running = self._app.current_worker_task
        member = current_member(self._app)
        if running is not None and running.request.id == task_id:
            # A retry or replacement of the running task is that task still: it keeps its mark and leaves.
            if claim := read_request(running.request):  # safety: retry-keeps-delivery
                write_header(message.headers, claim)
            if member:
                message = mark_message(name, message, member)
            result = self.send(producer, name, message, **options)
            successors.note_going_on(running.request)  # safety: going-on-noted
            if member and self.heartbeat:
                self.heartbeat().note_departure(running.request, member)
            return result
        if running is not None and member and (found := successors.find(running, member, name, message)):
            write_header(message.headers, found.member)
            message = mark_message(name, message, found.member, replaced=found.replaced)
            with successors.noting(running.request, name, found):
                result = self.send(producer, name, message, **options)
            if self.heartbeat and (noted := successors.worth_noting(running.request)):
                self.heartbeat().note_successors(running.request, member, noted)
            return result
        # safety: callback-no-member
        if isinstance(claim := read_header(message.headers.get(HEADER), task_id), DeliveryRef):
            write_header(message.headers, claim)
            return self.send(producer, name, message, **options)  # a callback is nobody's member
        if running is None and find_frame(self._app) is None and task_id in self.held:
            return self.send(producer, name, message, **options)  # the main process sends a lost member again
        strip_header(message.headers)  # safety: strip-header
        refuse_foreign_call(self._app, name)  # safety: foreign-call
        if find_frame(self._app) is not None and self._is_collected(task_id, name, message, options):
            return None
        return self.send(producer, name, message, **options)

    def _is_collected(self, task_id: str, name: str, message: Any, options: dict[str, Any]) -> bool:
        """Give a call to the innermost block that is still open when the call is ready."""
        call = self._snapshot(task_id, name, message, options)
        while (frame := find_frame(self._app)) is not None:
            if frame.owner is not None:
                frame.owner.prepare(call)
            if frame.collect([call]):
                return True
        return False

    @cached_property
    def send(self) -> Send:
        """Celery's own sender."""
        return self._app.amqp._create_task_sender()  # type: ignore[attr-defined,no-any-return]

    def _snapshot(self, task_id: str, name: str, message: Any, options: dict[str, Any]) -> Call:
        """Fix the arguments as they are now, and refuse at once what could not be sent later."""
        serializer = options.get("serializer") or self._app.conf.task_serializer
        try:
            content_type, encoding, body = serialization.dumps(message.body, serializer=serializer)
            json.dumps(message.headers)
        except (EncodeError, TypeError, ValueError) as exc:
            raise UnserialisableCall(
                f"{name}: this call cannot be sent with the serializer {serializer!r} ({exc}); nothing of it "
                "was enrolled: pass plain values, or an id by which the task finds the rest"
            ) from exc
        fixed = tuple(serialization.loads(body, content_type, encoding, accept={content_type}))
        return Call(task_id=task_id, name=name, message=message._replace(body=fixed), options=options)
