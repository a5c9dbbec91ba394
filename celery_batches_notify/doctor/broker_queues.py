"""Read the messages in the broker's queues without consuming any."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from celery import Celery
from kombu import Connection

from celery_batches_notify.messages.broker import connect_for_callbacks
from celery_batches_notify.messages.headers import HEADER

MESSAGES_CHUNK = 500

Headers = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A task's message in the broker.

    Attributes:
        task_id: The task's id.
        bid: The batch that its header names, or an empty text.
        queue: The queue that holds it, or that it was taken from.
        position: The number of messages ahead of it; None once a worker has taken it.
        taken_at: When a worker took it without acknowledging it yet, in seconds since 1970; else None.
    """

    task_id: str
    bid: str
    queue: str
    position: int | None = None
    taken_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerReading:
    """The result of reading the broker.

    Attributes:
        readable: Whether every message was seen. If not, a missing message proves nothing.
        why: Why it is not readable, or an empty text.
        is_away: Whether the reason is that the broker does not answer.
        lengths: The number of messages in each queue, as far as known.
        found: The wanted messages, by task id.
        bids: The batches that have at least one message.
        visibility_seconds: When an unacknowledged message returns to its queue, or None.
    """

    readable: bool
    why: str = ""
    is_away: bool = False
    lengths: Mapping[str, int] = field(default_factory=dict)
    found: Mapping[str, Message] = field(default_factory=dict)
    bids: Collection[str] = ()
    visibility_seconds: float | None = None


def read_broker(app: Celery, queues: Iterable[str], wanted: Callable[[str], bool]) -> BrokerReading:
    """Search the broker for task messages. An unreachable broker raises nothing.

    Args:
        app: The app that uses the broker.
        queues: Names of queues to search in addition to the configured ones.
        wanted: Returns whether the message of a task id is wanted.
    """
    names = {*app.amqp.queues, *queues}
    try:
        with connect_for_callbacks(app) as connection:
            connection.ensure_connection(max_retries=1)
            channel: Any = connection.default_channel
            if hasattr(channel, "unacked_key") and hasattr(channel, "priority_steps"):
                return _read_redis(_RedisBroker(channel), names, wanted)
            return _read_lengths(connection, names)
    except Exception as exc:  # noqa: BLE001 - every transport has errors of its own
        why = f"the broker does not answer ({type(exc).__name__})"
        return BrokerReading(readable=False, why=why, is_away=True)


def _read_redis(broker: _RedisBroker, names: set[str], wanted: Callable[[str], bool]) -> BrokerReading:
    found: dict[str, Message] = {}
    bids: set[str] = set()
    lengths: dict[str, int] = {}
    # Messages move in this order, so one that moves during the search is still found.
    for queue in sorted(names | broker.read_queues()):
        lengths[queue] = 0
        for key in broker.lists_of(queue):
            places = {}
            for place, message in enumerate(broker.walk_list(key, queue)):
                bids.add(message.bid)
                if wanted(message.task_id):
                    places[message.task_id] = place
                    found[message.task_id] = message
                lengths[queue] += 1
            for task_id, place in places.items():
                found[task_id] = replace(found[task_id], position=lengths[queue] - 1 - place)
    for message in broker.walk_taken():
        bids.add(message.bid)
        if wanted(message.task_id):
            found.setdefault(message.task_id, message)
    return BrokerReading(
        readable=True,
        lengths={queue: length for queue, length in lengths.items() if length or queue in names},
        found=found,
        bids=bids - {""},
        visibility_seconds=float(broker.channel.visibility_timeout),
    )


def _read_lengths(connection: Connection, names: set[str]) -> BrokerReading:
    """Read queue lengths: other brokers reveal nothing more without delivering messages."""
    lengths: dict[str, int] = {}
    transport = connection.transport.driver_type
    for queue in sorted(names):
        channel: Any = connection.channel()
        try:
            lengths[queue] = int(channel.queue_declare(queue=queue, passive=True)[1])
            channel.close()
        except connection.channel_errors:
            continue  # the queue does not exist
    why = f"the messages in a broker of the kind {transport} cannot be read without taking them"
    return BrokerReading(readable=False, why=why, lengths=lengths)


class _RedisBroker:
    """Read-only access to kombu's keys in a Redis broker.

    Some of kombu's clients add its global prefix to the keys of some commands. They do not for the commands
    used here, so this class adds it.
    """

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._client: Any = channel._create_client()
        self._prefix: str = channel.global_keyprefix

    def read_queues(self) -> set[str]:
        """Return every declared queue, including one with a typo that no worker consumes."""
        prefix = f"{self._prefix}{self.channel.keyprefix_queue % ''}"
        queues = set()
        for key in self._client.scan_iter(match=f"{prefix}*", count=1000):
            if _text(key).removeprefix(prefix).endswith(("pidbox", "celeryev")):
                continue
            for member in self._client.sscan_iter(key):
                queues.add(_text(member).split(self.channel.sep)[-1])
        return {queue for queue in queues if not queue.endswith(".pidbox")}

    def lists_of(self, queue: str) -> list[str]:
        """Return the list keys of a queue, one per priority, most urgent first."""
        return [
            f"{self._prefix}{self.channel._q_for_pri(queue, step)}" for step in self.channel.priority_steps
        ]

    def walk_list(self, key: str, queue: str) -> Iterator[Message]:
        """Yield the messages of a list, newest first, so that none shifts past the reader."""
        start = 0
        while chunk := self._client.lrange(key, start, start + MESSAGES_CHUNK - 1):
            for raw in chunk:
                yield _read_message(_parse(raw), queue)
            start += len(chunk)

    def walk_taken(self) -> Iterator[Message]:
        """Yield the messages that workers have taken but not acknowledged."""
        taken = f"{self._prefix}{self.channel.unacked_key}"
        index = f"{self._prefix}{self.channel.unacked_index_key}"
        for tag, raw in self._client.hscan_iter(taken, count=MESSAGES_CHUNK):
            whole = _parse(raw)
            message, _, queue = whole if isinstance(whole, list) and len(whole) == 3 else ({}, "", "")
            at = self._client.zscore(index, tag)
            yield _read_message(message, str(queue), taken_at=at if at is not None else time.time())


def _parse(raw: Any) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return {}


def _read_message(message: Any, queue: str, *, taken_at: float | None = None) -> Message:
    headers = message.get("headers") if isinstance(message, dict) else None
    headers = headers if isinstance(headers, dict) else {}
    header = headers.get(HEADER)
    return Message(
        task_id=str(headers.get("id", "")),
        bid=str(header.get("bid", "")) if isinstance(header, dict) else "",
        queue=queue,
        taken_at=taken_at,
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
