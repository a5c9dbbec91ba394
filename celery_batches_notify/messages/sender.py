"""The sender: every message that an app sends goes through it, into the open block or to the broker."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import cached_property, partial
from typing import Any, Protocol

from celery import Celery
from kombu import serialization
from kombu.exceptions import EncodeError
from kombu.utils import json

from celery_batches_notify.errors import InvalidCall, UnserialisableCall
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages import successors
from celery_batches_notify.messages.block import Call, Frame, find_frame, refuse_foreign_call
from celery_batches_notify.messages.canvas import last_of_chain, tag_message
from celery_batches_notify.messages.headers import (
    HEADER,
    DeliveryRef,
    current_member,
    read_header,
    read_request,
    strip_header,
    write_header,
)
from celery_batches_notify.messages.other_packages import refuse_buffered
from celery_batches_notify.messages.run import run_of
from celery_batches_notify.messages.successors import Successor
from celery_batches_notify.messages.task_sender import TaskSender

NOTED_AT_MOST = 32  # if there are more, a lost worker's batch waits for the first ones

Send = Callable[..., Any]


class InFlightNotes(Protocol):
    """The worker's heartbeat: notes what a running member has sent, in case its worker is lost."""

    def note_departure(self, request: Any, member: Membership) -> None:
        """Note that the task's own retry or replacement has left."""
        ...

    def note_successors(self, request: Any, member: Membership, sent: tuple[Membership, ...]) -> None:
        """Note which successors it has published."""
        ...


class Sender:
    """Replaces Celery's `app.amqp.send_task_message`: a message goes into the open block or to the broker.

    Args:
        app: The app.
        wrapped: What somebody had put into that place before.

    Attributes:
        heartbeat: Returns the worker's heartbeat; None before `Batches(app)` has set it.
        received: The requests that this process holds as a worker, by task id.
    """

    def __init__(self, app: Celery, wrapped: Send | None = None) -> None:
        self._app = app
        self._wrapped = wrapped
        self.calls = TaskSender(app)
        self.heartbeat: Callable[[], InFlightNotes] | None = None
        self.received: Container[str] = ()

    def __call__(self, producer: Any, name: str, message: Any, **options: Any) -> Any:
        """Send a message, or give it to the block that collects."""
        message.headers.update(options.pop("headers", None) or {})  # as Celery itself does later
        task_id = message.headers["id"]
        send = partial(self.send, producer, name, **options)
        running, member = self._app.current_worker_task, current_member(self._app)
        if running is not None and running.request.id == task_id:
            return self._send_own(send, name, message, running, member)
        if running is not None and member and (found := successors.find(running, member, name, message)):
            return self._send_successor(send, name, message, running, member, found)
        # safety: callback-no-member
        if isinstance(identity := read_header(message.headers.get(HEADER), task_id), DeliveryRef):
            write_header(message.headers, identity)
            return send(message)  # a callback is not a member
        if running is None and find_frame(self._app) is None and task_id in self.received:
            return send(message)  # the worker's main process sends a lost member again
        if running is not None:
            successors.note_retry(running, name, message)
        strip_header(message.headers)  # safety: strip-header
        refuse_foreign_call(self._app, name)  # safety: foreign-call
        return None if self._collect(name, message, options) else send(message)

    def _send_own(self, send: Send, name: str, message: Any, running: Any, member: Membership | None) -> Any:
        """Send a retry or replacement of the running task under its id: still the same member or delivery."""
        request = running.request
        if identity := read_request(request):  # safety: retry-keeps-delivery
            write_header(message.headers, identity)
        if member:
            message = tag_message(name, message, member)
        result = send(message)
        run_of(request).goes_on = True  # safety: going-on-noted
        if member and (notes := self._notes_of(running)):
            notes.note_departure(request, member)
        return result

    def _send_successor(
        self, send: Send, name: str, message: Any, running: Any, member: Membership, found: Successor
    ) -> Any:
        """Send a message with which the running member's canvas goes on."""
        run = run_of(running.request)
        write_header(message.headers, found.member)
        message = tag_message(name, message, found.member, replaced=found.replaced)
        with successors.publishing(run, name, found):
            result = send(message)
        if len(run.successors) <= NOTED_AT_MOST and (notes := self._notes_of(running)):
            notes.note_successors(running.request, member, run.published)
        return result

    def _notes_of(self, running: Any) -> InFlightNotes | None:
        """Return where to note what a running member sends; None if its message comes back by itself.

        A message that is acknowledged late has no record, so nobody would remove a note.
        """
        return self.heartbeat() if self.heartbeat and not running.acks_late else None  # safety: late-unnoted

    def _collect(self, name: str, message: Any, options: dict[str, Any]) -> bool:
        """Give a call to the innermost block that is still open when it is ready; return whether one was."""
        if find_frame(self._app) is None:
            return False
        refuse_buffered(self._app, name, message)  # safety: buffered-call
        call = self._snapshot(name, message, options)
        last = last_of_chain(message)
        while (frame := find_frame(self._app)) is not None:
            if last is not None:
                _note_chain(frame, name, last)
            if frame.owner is not None:
                frame.owner.prepare(call)
            if frame.collect([call]):
                return True
        return False

    @cached_property
    def send(self) -> Send:
        """What a message leaves by: Celery's own sender, or what somebody had put into its place before."""
        return self._wrapped or self._app.amqp._create_task_sender()  # type: ignore[attr-defined]

    def _snapshot(self, name: str, message: Any, options: dict[str, Any]) -> Call:
        """Copy the arguments as they are now. Raises `UnserialisableCall` if they could not be sent later."""
        if not isinstance(task_id := message.headers["id"], str):  # safety: id-is-text
            raise InvalidCall(f"{name}: task_id must be a string, got {task_id!r}: write str(…)")
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
        message = message._replace(body=fixed)
        return Call(task_id=task_id, name=name, message=message, options=options)


def _note_chain(frame: Frame, name: str, last_id: str) -> None:
    """Note that a chain was called. Raises `InvalidCall` if one with the same last id was called here."""
    if last_id in frame.chains:  # safety: chain-called-twice
        raise InvalidCall(
            f"the chain that begins with {name} is called again, and Celery gives its last task the id "
            "of the first call, so that both count once: call chain.clone() each time, or map() the chain"
        )
    frame.chains.add(last_id)
