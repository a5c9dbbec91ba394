"""Prepared messages: kombu publishes them, and what Celery does for each is done once per template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_batches_notify.messages.headers import HEADER
from celery_batches_notify.messages.ids import new_ids
from celery_batches_notify.messages.members import member_message
from celery_batches_notify.messages.templates import Template, TemplateCall
from celery_batches_notify.producer.properties import Properties

MODEL_INDEX = 918_273_645_564_738


class NotPrepared(Exception):
    """Why messages of a template cannot be prepared."""


class Published:
    """Stands for Celery's producer, and takes what it is given to publish."""

    body: Any
    options: dict[str, Any]

    def publish(self, body: Any, **options: Any) -> None:
        """Keep a message."""
        self.body, self.options = body, options


class Prepared:
    """Makes the messages of a template for any broker.

    Args:
        send: Celery's own sender.
        producer: The producer that shows what kombu makes of a message. Nothing leaves.
        bid: The batch of the example.
        example: A call of the template that is a member.

    Attributes:
        retry_policy: How kombu repeats a publish if the connection is lost; None if it does not.
        properties: Writes the properties of messages for py-amqp; None if it has to write them itself.

    Raises:
        NotPrepared: What Celery and kombu give to the broker's channel is something else.
    """

    def __init__(self, send: Callable[..., Any], producer: Any, bid: str, example: TemplateCall) -> None:
        published, model = Published(), make_model(example.template)
        send(published, model.name, member_message(model, bid), **model.options)
        self._declared = published.options.get("declare") or ()
        self.retry_policy = published.options["retry_policy"] if published.options["retry"] else None
        self.declare(producer)
        made, self._arguments = _record(producer, published)
        _, self._priority, self._type, self._encoding, self._headers, self._properties = made
        send(published, example.name, member_message(example, bid), **example.options)
        (body, *theirs), arguments = _record(producer, published)
        mine, *ours = self._made_of(bid, example)
        # Texts show the order of the keys, and the types of the values.
        if repr(ours) != repr(theirs) or repr(arguments) != repr(self._arguments) or mine != _bytes(body):
            raise NotPrepared("its message is not what Celery and kombu publish")
        self.properties = self._find_properties(producer.channel, bid, model, example)

    def declare(self, producer: Any) -> None:
        """Declare the queue, as each publish of kombu's does."""
        for entity in self._declared:
            producer.maybe_declare(entity)

    def publish(self, channel: Any, bid: str, call: TemplateCall) -> None:
        """Publish a call that is a member of a batch."""
        message = channel.prepare_message(*self._made_of(bid, call))
        if self.properties is not None and (written := self.properties.write(bid, call)) is not None:
            message._serialize_properties = lambda: written
        channel.basic_publish(message, **self._arguments)

    def _find_properties(
        self, channel: Any, bid: str, model: TemplateCall, example: TemplateCall
    ) -> Properties | None:
        """Return what writes the properties of messages if py-amqp sends them and writes the same."""
        try:
            found = Properties(channel.prepare_message(*self._made_of(bid, model)), bid, model)
            theirs = channel.prepare_message(*self._made_of(bid, example))._serialize_properties()
            return found if found.write(bid, example) == theirs else None  # safety: properties-proven
        except Exception:  # noqa: BLE001 - whatever it is, py-amqp writes them itself
            return None

    def _made_of(self, bid: str, call: TemplateCall) -> tuple[Any, ...]:
        """Return what kombu makes a message of."""
        headers = call.template.headers_of(call, self._headers)
        headers[HEADER] = {"bid": bid, "index": call.index}
        properties = {**self._properties, "correlation_id": call.task_id}
        return call.body, self._priority, self._type, self._encoding, headers, properties


def make_model(template: Template) -> TemplateCall:
    """Make a call whose message holds each part that differs from call to call in one place only."""
    task_id, args, args_repr, kwargs_repr = new_ids(4)
    model = template.make(task_id, (args,), {})
    model.args_repr, model.kwargs_repr, model.index = args_repr, kwargs_repr, MODEL_INDEX
    return model


def _record(producer: Any, published: Published) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what kombu makes a message of, and with which arguments it publishes that."""
    channel, own = producer.channel, dict(vars(producer.channel))
    made: list[tuple[Any, ...]] = []
    found: list[dict[str, Any]] = []

    def prepare_message(*parts: Any) -> None:
        made.append((*parts[:-1], dict(parts[-1])))

    def basic_publish(_: Any, **arguments: Any) -> None:
        found.append(arguments)

    channel.prepare_message, channel.basic_publish = prepare_message, basic_publish
    try:
        # Without a retry, because another channel would not be recorded.
        producer.publish(published.body, **{**published.options, "retry": False})
    finally:
        for name in ("prepare_message", "basic_publish"):
            delattr(channel, name)
            if name in own:
                setattr(channel, name, own[name])
    [parts], [arguments] = made, found
    return parts, arguments


def _bytes(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else body
