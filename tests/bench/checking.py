"""Whether each way is taken that should be, and whether its messages are Celery's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.bench.celery_ways import Producers

CALLS = 4  # Celery makes the first two of each template
KINDS: tuple[dict[str, Any], ...] = (
    {"payload": "int"},
    {"payload": "dict"},
    {"payload": "int", "results": True},
)
ON_RABBITMQ: tuple[dict[str, Any], ...] = ({"payload": "int"}, {"payload": "int", "confirm": True})


def check_all(redis: str, amqp: str | None) -> None:
    """Check every kind of call on Redis, and on RabbitMQ if there is one. Raises as `check` does."""
    for kind in KINDS:
        check(redis, redis, kind, "Stamp")
    for kind in ON_RABBITMQ if amqp else ():
        check(amqp, redis, kind, "Prepared")


def check(broker: str, store: str, kind: dict[str, Any], way: str) -> None:
    """Make calls in all three ways. Raises `AssertionError` if a message or a way is not the right one."""
    producers = Producers(broker, store, **kind)
    producers.purge()
    producers.delay(CALLS)
    *theirs, _over = map(_shown, _take(producers, CALLS + 1))
    for name in ("map", "block", "add"):
        producers.ways[name](CALLS)
        ours = [_shown(message) for message in _take(producers, CALLS)]
        assert ours == theirs, f"{name}, {kind}: {ours[0]} is not {theirs[0]}"
    templates = producers.batching.send_task._templates.by_key.values()  # type: ignore[attr-defined]
    taken = {type(template.way[1]).__name__ for template in templates if template and template.way}
    assert taken == {way}, f"{kind}: the calls were {taken}, not {way}"


def _take(producers: Producers, number: int) -> Iterator[Any]:
    """Take so many messages from the queue."""
    app = producers.plain
    with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        for _ in range(number):
            message = queue.get(timeout=10)
            message.ack()
            yield message


def _shown(message: Any) -> str:
    """Show all of a message, in its order, but what no two messages have in common."""
    headers, properties = dict(message.headers), dict(message.properties)
    properties.pop("application_headers", None)  # the headers again
    mark = headers.pop("batches", None)
    assert mark is None or list(mark) == ["bid", "index"], mark
    task_id = headers["id"]
    assert headers["root_id"] == properties["correlation_id"] == task_id
    own = {task_id, properties.get("reply_to"), properties.get("delivery_tag")}
    text = repr((headers, properties, message.body))
    for value in filter(None, own):
        text = text.replace(json.dumps(value)[1:-1], "…")
    return text
