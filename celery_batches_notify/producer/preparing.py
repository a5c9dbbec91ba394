"""Prepared messages: kombu publishes them, and what Celery does for each is done once per template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_batches_notify.messages.headers import HEADER
from celery_batches_notify.messages.members import member_message
from celery_batches_notify.messages.templates import Template, TemplateCall, new_ids

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
    """Publishes the messages of a template.

    Args:
        send: Celery's own sender.
        producer: The producer that shows what kombu makes of a message. Nothing leaves.
        bid: The batch of the example.
        example: A call of the template that is a member.

    Raises:
        NotPrepared: What Celery gives to kombu is something else.
    """

    def __init__(self, send: Callable[..., Any], producer: Any, bid: str, example: TemplateCall) -> None:
        published, model = Published(), make_model(example.template)
        send(published, model.name, member_message(model, bid), **model.options)
        self._headers = published.options["headers"]
        self._is_own_root = self._headers["root_id"] == model.task_id
        self.retries = bool(published.options["retry"])
        self._options = {**published.options, "serializer": None}
        self._options |= {
            "content_type": example.template.content_type,
            "content_encoding": example.template.content_encoding,
        }
        for entity in published.options.get("declare") or ():
            producer.maybe_declare(entity)
        send(published, example.name, member_message(example, bid), **example.options)
        theirs = _record(producer, published.body, published.options)
        if _record(producer, example.body, self._arguments(bid, example)) != theirs:
            raise NotPrepared("its message is not what Celery publishes")

    def publish(self, producer: Any, bid: str, call: TemplateCall, **options: Any) -> None:
        """Publish a call that is a member of a batch, as kombu does."""
        producer.publish(call.body, **self._arguments(bid, call), **options)

    def publish_once(self, producer: Any, bid: str, call: TemplateCall) -> None:
        """Publish a call, and do not try again if the connection is lost."""
        producer.publish(call.body, **{**self._arguments(bid, call), "retry": False})

    def _arguments(self, bid: str, call: TemplateCall) -> dict[str, Any]:
        headers = {
            **self._headers,
            "id": call.task_id,
            "argsrepr": call.args_repr,
            "kwargsrepr": call.kwargs_repr,
            HEADER: {"bid": bid, "index": call.index},
        }
        if self._is_own_root:
            headers["root_id"] = call.task_id
        return {**self._options, "headers": headers, "correlation_id": call.task_id}


def make_model(template: Template) -> TemplateCall:
    """Make a call of which each part that differs from call to call stands nowhere else in its message."""
    task_id, args, args_repr, kwargs_repr = new_ids(4)
    model = template.make(task_id, (args,), {})
    model.args_repr, model.kwargs_repr, model.index = args_repr, kwargs_repr, MODEL_INDEX
    return model


def _record(producer: Any, body: Any, options: dict[str, Any]) -> Any:
    """Return what kombu gives to the channel to publish this."""
    channel, found = producer.channel, []
    own = vars(channel).get("basic_publish")

    def basic_publish(message: Any, **arguments: Any) -> None:
        found.append((message, arguments))

    channel.basic_publish = basic_publish
    try:
        # Without a retry, because another channel would not be recorded.
        producer.publish(body, **{**options, "retry": False, "headers": dict(options["headers"])})
    finally:
        if own is None:
            del channel.basic_publish
        else:
            channel.basic_publish = own
    [(message, arguments)] = found
    is_virtual = isinstance(message, dict)
    content = message.pop("body") if is_virtual else message.body
    rest = message if is_virtual else message.properties
    return content.encode() if isinstance(content, str) else content, repr(rest), repr(arguments)
