"""Templates: what the messages of one task with the same options have in common. Pure: no I/O.

Celery makes the first two messages of every template, and the second shows whether the template gives the
same. From then on a call is its id, its arguments as they are sent, and their `repr`.
"""

from __future__ import annotations

import json as stdlib_json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from celery import Celery
from celery.app.amqp import task_message
from kombu import serialization
from kombu.utils import json

from celery_batches_notify.messages.block import Call
from celery_batches_notify.messages.canvas import carries_more
from celery_batches_notify.messages.headers import HEADER
from celery_batches_notify.messages.plain_repr import plain_repr


def _make_encode() -> Callable[[Any], str]:
    """Return `kombu.utils.json.dumps` without what it does anew in each call."""
    encoder = json.JSONEncoder()
    make = getattr(stdlib_json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    text = stdlib_json.encoder.encode_basestring_ascii
    # Without its check for circles: they end in a RecursionError, and Celery says what is wrong.
    parts = make(None, encoder.default, text, None, ": ", ", ", False, False, True)
    return lambda value: "".join(parts(value, 0))


_encode = _make_encode()
# No template has these.
_OF_ONE_CALL = ("eta", "expires", "group", "group_index", "shadow", "stamped_headers")


class NoTemplate(Exception):
    """Why calls such as this one cannot be made from a template."""


class Template:
    """Makes the calls of one task with the same options, as Celery would.

    Args:
        app: The app.
        call: A call that Celery made.

    Attributes:
        name: The task's name.
        options: What Celery's sender is given with each message.
        is_proven: Whether it has made a call that Celery made too, and both were the same.
        ignore_result: What Celery notes with the results of its calls.
        keeps_result: Whether the result backend must see each of its calls.
        way: How its messages are published, once somebody has found out.

    Raises:
        NoTemplate: The call's message says more than a template holds.
    """

    def __init__(self, app: Celery, call: Call) -> None:
        headers, properties, body, sent_event = call.message
        if HEADER in headers or "headers" in headers:
            raise NoTemplate("headers of the user's own")
        if sent_event is not None or any(headers[name] is not None for name in _OF_ONE_CALL):
            raise NoTemplate("options that a single call has")
        if any(body[2].values()) or carries_more(call.name, call.message):
            raise NoTemplate("a canvas")
        self.name = call.name
        self.options = dict(call.options)
        self.is_proven = False
        self.ignore_result = headers["ignore_result"]
        self.keeps_result = False
        self.way: Any = None
        self._headers = dict(headers)
        self._properties = dict(properties)
        self._is_own_root = headers["root_id"] == call.task_id
        self._embed = body[2]
        self._serializer = call.options.get("serializer") or app.conf.task_serializer
        self.content_type, self.content_encoding, _ = serialization.dumps(body, serializer=self._serializer)
        is_json = self._serializer == "json" and _json_is_kombus()
        self._rest: str | None = f", {_encode(self._embed)}]" if is_json else None
        amqp: Any = app.amqp
        self._maxlevels = app.conf.get("task_repr_maxlevels", 3)  # a setting since Celery 5.7
        self._args_maxsize, self._kwargs_maxsize = amqp.argsrepr_maxsize, amqp.kwargsrepr_maxsize
        self._no_kwargs_repr = plain_repr({}, self._kwargs_maxsize, self._maxlevels)

    def make(self, task_id: str, args: Any, kwargs: Any) -> TemplateCall:
        """Make a call, and fix its arguments as they are now. Raises whatever their serializer raises."""
        args_repr = plain_repr(args, self._args_maxsize, self._maxlevels)
        kwargs_repr = self._no_kwargs_repr
        if kwargs:
            kwargs_repr = plain_repr(kwargs, self._kwargs_maxsize, self._maxlevels)
        if self._rest is None:
            body = self._dump((args, kwargs or {}, self._embed))
        else:
            body = f"[{_encode(args)}, {_encode(kwargs) if kwargs else '{}'}{self._rest}".encode()
        return TemplateCall(self, task_id, body, args_repr, kwargs_repr)

    def prove(self, call: Call, args: Any, kwargs: Any) -> None:
        """Make a call that Celery made too. Raises `NoTemplate` if they differ."""
        ours, theirs = self.make(call.task_id, args, kwargs).message, call.message
        # Texts show the order of the keys, and the types of the values.
        if repr(ours.headers) != repr(theirs.headers):
            raise NoTemplate("its headers differ from Celery's")
        if repr(ours.properties) != repr(theirs.properties) or repr(self.options) != repr(call.options):
            raise NoTemplate("its properties differ from Celery's")
        if self._dump(ours.body) != self._dump(theirs.body):
            raise NoTemplate("its arguments differ from Celery's")
        self.is_proven = True

    def _dump(self, body: Any) -> bytes:
        _, _, data = serialization.dumps(body, serializer=self._serializer)
        return data if isinstance(data, bytes) else data.encode(self.content_encoding)

    def headers_of(self, call: TemplateCall, headers: dict[str, Any]) -> dict[str, Any]:
        """Return a call's own headers, given those of another call of this template."""
        own = {"id": call.task_id, "argsrepr": call.args_repr, "kwargsrepr": call.kwargs_repr}
        if self._is_own_root:
            own["root_id"] = call.task_id
        return headers | own

    def message_of(self, call: TemplateCall) -> Any:
        """Return a call's message as Celery makes it."""
        headers, properties = self.headers_of(call, self._headers), self._properties
        body = serialization.loads(
            call.body, self.content_type, self.content_encoding, accept={self.content_type}
        )
        return task_message(headers, properties | {"correlation_id": call.task_id}, tuple(body), None)


class TemplateCall(Call):
    """A call that takes a third of the memory of others, because the rest is its template's."""

    __slots__ = ("args_repr", "body", "kwargs_repr")

    template: Template

    def __init__(
        self, template: Template, task_id: str, body: bytes, args_repr: str, kwargs_repr: str
    ) -> None:
        self.template = template
        self.task_id = task_id
        self.body = body
        self.args_repr = args_repr
        self.kwargs_repr = kwargs_repr
        self.index = self.kept = None
        self.sent = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """The task's name."""
        return self.template.name

    @property
    def options(self) -> dict[str, Any]:  # type: ignore[override]
        """What Celery's sender is given with the message."""
        return self.template.options

    @property
    def message(self) -> Any:
        """Its message, made anew each time."""
        return self.template.message_of(self)


@dataclass(slots=True, kw_only=True)
class Templates:
    """The templates of one app, valid as long as its configuration stays as it is.

    Attributes:
        because: Why no call is made from a template, or an empty text.
        by_key: The templates; None for keys that cannot have one.
    """

    because: str
    by_key: dict[Any, Template | None] = field(default_factory=dict)


def _json_is_kombus() -> bool:
    """Whether nobody has registered a serializer of their own as `json`."""
    known = getattr(cast("Any", serialization).registry, "_encoders", {}).get("json")
    return known is not None and getattr(known, "encoder", None) is json.dumps
