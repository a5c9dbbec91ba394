"""Stamps: the final Redis commands of a template's messages, cut where one call differs from another.

Celery and kombu write the first two messages of each template themselves, down to the command for the broker.
The first is cut into a stamp; the second must equal what the stamp writes for it.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any

from celery_batches_notify.messages.block import Call
from celery_batches_notify.messages.ids import new_ids
from celery_batches_notify.messages.members import member_message
from celery_batches_notify.messages.templates import TemplateCall
from celery_batches_notify.producer.cutting import cut
from celery_batches_notify.producer.preparing import Published, make_model
from celery_batches_notify.producer.pushing import push_texts

Command = tuple[str, tuple[Any, ...]]

_text = json.encoder.encode_basestring_ascii


class NotStampable(Exception):
    """Why messages of a template cannot be stamped."""


class Stamp:
    """Writes the messages of a template for Redis.

    Args:
        send: Celery's own sender.
        producer: The producer that shows what kombu writes. Nothing leaves.
        bid: The batch of the example.
        example: A call of the template that is a member.

    Attributes:
        key: The list that the messages go to.
        after: The commands that follow them.

    Raises:
        NotStampable: What Celery and kombu write is not what the stamp gives.
    """

    def __init__(self, send: Callable[..., Any], producer: Any, bid: str, example: TemplateCall) -> None:
        model, model_bid = make_model(example.template), new_ids(1)[0]
        published = Published()
        send(published, model.name, member_message(model, model_bid), **model.options)
        options = published.options
        self._declared = options.get("declare") or ()
        self._retry_policy: dict[str, Any] | None = options["retry_policy"] if options["retry"] else None
        self.declare(producer)
        (self.key, payload), self.after = _record(producer, published)
        (*self._between, self._end), self._order = _cut(payload, model, model_bid)
        send(published, example.name, member_message(example, bid), **example.options)
        (key, theirs), after = _record(producer, published)
        [ours] = self.write(bid, [example], [_tag_of(theirs)])
        if (key, after, theirs) != (self.key, self.after, ours):
            raise NotStampable("its message is not what Celery and kombu write")

    def declare(self, producer: Any) -> None:
        """Declare the queue, as each publish of kombu's does."""
        for entity in self._declared:
            producer.maybe_declare(entity)

    def write(self, bid: str, calls: Sequence[TemplateCall], tags: Sequence[str]) -> list[str]:
        """Write the messages of these calls, with these delivery tags."""
        columns: tuple[Iterable[str], ...] = (
            repeat(bid),
            [_text(call.task_id) for call in calls],
            [str(call.index) for call in calls],
            tags,
            [_text(call.args_repr) for call in calls],
            [_text(call.kwargs_repr) for call in calls],
            [b2a_base64(call.body, newline=False).decode() for call in calls],
        )
        pieces = zip(map(repeat, self._between), (columns[place] for place in self._order), strict=True)
        return list(map("".join, zip(*chain.from_iterable(pieces), repeat(self._end), strict=False)))

    def push(self, line: Line, payloads: Sequence[str], calls: Sequence[Call]) -> None:
        """Push the messages of these calls, all or none, and try again as kombu does without a connection."""
        producer = line.producer

        def push() -> None:
            client = line.open(self)
            known = all(call.sent is not None for call in calls)
            _note_sent(calls, None)  # safety: unknown-not-unsent-pushed
            try:
                self._push(client, payloads)
            except producer.connection.channel_errors:  # the server has refused the command
                if known:  # safety: refused-or-unknown
                    _note_sent(calls, False)
                raise
            _note_sent(calls, True)

        if self._retry_policy is None:
            push()
        else:
            producer.connection.ensure(producer, push, **self._retry_policy)()

    def _push(self, client: Any, payloads: Sequence[str]) -> None:
        if not self.after:
            push_texts(client, self.key, payloads)
            return
        with client.pipeline() as pipe:
            for name, args in [("lpush", (self.key, *payloads)), *self.after]:
                getattr(pipe, name)(*args)
            pipe.execute()


class Line:
    """A producer's way to its Redis, which many commands take.

    kombu makes a client for each message, which costs as much as writing forty messages.
    """

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self._channel: Any = None
        self._client: Any = None
        self._declared: set[Stamp] = set()

    def open(self, stamp: Stamp) -> Any:
        """Return the client of the producer's present channel, on which the stamp's queue is declared."""
        channel = self.producer.channel
        if channel is not self._channel:  # safety: line-of-channel
            with channel.conn_or_acquire() as client:
                self._client = client
            self._channel = channel
            self._declared.clear()
        if stamp not in self._declared:
            stamp.declare(self.producer)
            self._declared.add(stamp)
        return self._client


def _note_sent(calls: Sequence[Call], sent: bool | None) -> None:
    for call in calls:
        call.sent = sent


class _Recorder:
    """Stands for kombu's Redis client, and notes the commands of one message."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def pipeline(self, *_: Any, **__: Any) -> _Recorder:
        """Begin a transaction, which is noted as its commands are."""
        return self

    def execute(self) -> None:
        """End a transaction."""

    def lpush(self, *args: Any) -> None:
        """Note the message."""
        self.commands.append(("lpush", args))

    def pexpire(self, *args: Any) -> None:
        """Note the expiry of its queue."""
        self.commands.append(("pexpire", args))

    def __getattr__(self, name: str) -> Any:
        raise NotStampable(f"its message takes {name}, so it goes to an exchange")


def _record(producer: Any, published: Published) -> tuple[tuple[str, str], list[Command]]:
    """Return the list and the text of a message as kombu writes it, and the commands that follow it."""
    channel, recorder = producer.channel, _Recorder()
    theirs = channel.basic_publish

    def basic_publish(message: Any, **options: Any) -> Any:
        channel.conn_or_acquire = lambda *_: recorder
        try:
            return theirs(message, **options)
        finally:
            del channel.conn_or_acquire

    channel.basic_publish = basic_publish
    try:
        # Without a retry, because another channel would not be recorded.
        producer.publish(published.body, **{**published.options, "retry": False})
    finally:
        del channel.basic_publish
    match recorder.commands:
        case [("lpush", (str(key), payload)), *after] if all(name == "pexpire" for name, _ in after):
            return (key, payload if isinstance(payload, str) else payload.decode()), after
    raise NotStampable("its message goes to several queues or to none")


def _cut(payload: str, model: TemplateCall, bid: str) -> tuple[list[str], list[int]]:
    """Cut a message at what differs from call to call."""
    body = b2a_base64(model.body, newline=False).decode()
    places = [
        bid,
        _text(model.task_id),
        str(model.index),
        _tag_of(payload),
        _text(model.args_repr),
        _text(model.kwargs_repr),
        body,
    ]
    try:
        return cut(payload, places)
    except ValueError as exc:
        raise NotStampable("its message is compressed, or made in another way") from exc


def _tag_of(payload: str) -> str:
    tag = json.loads(payload)["properties"]["delivery_tag"]
    return str(tag)
