"""A member's message equals Celery's own apart from its batch, on every way to the broker."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from kombu import Exchange, Queue, serialization
from kombu.exceptions import EncodeError
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.messages.templates import TemplateCall

ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

ARGUMENTS: list[tuple[Any, ...]] = [
    (),
    (7,),
    (-(2**80), 1.5, True, None),
    (float("inf"), float("-inf"), float("nan"), 1e300, -0.0),
    ("", "it's", 'say "%s" %d %%', "\x00\n\\", "é\u2028😀", "\ud800 half"),
    ("x" * 3000,),
    ([1, [2, [3, [4, [5]]]]],),
    ({"a": 1, "b": {"c": [1, 2, {"d": None}]}, "it's": "é"},),
    ({"id": 1, "name": "Ada", "tags": ["a", "b"], "amount": 12.5, "note": "n" * 200},),
    ((1, 2), [3, (4,)]),
    (datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC), date(2026, 1, 1), time(1, 2, 3)),
    (Decimal("1.50"), UUID(int=5), b"bytes", b"\xff\x00"),
    ("0", 0, "00000000-0000-0000-0000-000000000000", "%(id)s"),
]
KEYWORDS: list[dict[str, Any]] = [
    {"x": 1},
    {"name": "it's", "row": {"a": [1, "é"]}, "when": date(2026, 1, 1)},
]

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "priority": {"priority": 3},
    "queue": {"queue": "other"},
    "expiring queue": {"queue": "expiring"},
    "exchange": {"queue": "topic"},
    "time limits": {"time_limit": 10, "soft_time_limit": 5.5},
    "whole limits": {"time_limit": 10.0},
    "ignored": {"ignore_result": True},
    "transient": {"delivery_mode": 1},
    "pickle": {"serializer": "pickle"},
    "gzip": {"compression": "gzip"},
    "expires": {"expires": 60},
    "countdown": {"countdown": 60},
    "headers": {"headers": {"mine": {"a": 1}}},
    "shadow": {"shadow": "shown"},
    "argsrepr": {"argsrepr": "(secret)", "kwargsrepr": "{secret}"},
    "reply to": {"reply_to": "me"},
    "root": {"root_id": "root", "parent_id": "parent"},
    "group": {"group_id": "g", "group_index": 3},
    "no retry": {"retry": False},
    "retry policy": {"retry_policy": {"max_retries": 1}},
    "stamps": {"stamped_headers": ["mine"], "mine": 5},
}
STAMPED = ["plain", "priority", "queue", "time limits", "whole limits", "ignored", "transient", "pickle"]
WAYS = {name: ["Stamp"] for name in [*STAMPED, "expiring queue"]} | {"exchange": ["Prepared"]}


@pytest.fixture
def pair(make_app: Callable[..., Celery], server_url: str, redis: Redis) -> Iterator[tuple[Celery, Celery]]:
    """An app with batches, and one without."""
    conf: dict[str, Any] = {
        "task_default_queue": "celery",
        "accept_content": ["json", "pickle", "yaml"],
        "task_queues": [
            Queue("celery"),
            Queue("other"),
            Queue("expiring", expires=60),
            Queue("topic", Exchange("topics", type="topic"), routing_key="some.key"),
        ],
    }
    plain = Celery("tests", broker=server_url, backend=None, set_as_current=False)
    plain.conf.update(conf)
    batching = make_app(broker=server_url, **conf)
    for app in (plain, batching):
        app.task(name="any", typing=False, shared=False)(_any)
    yield batching, plain
    plain.close()


def _any(*_: Any, **__: Any) -> None:
    pass


def _is_yaml(args: tuple[Any, ...]) -> bool:
    try:
        serialization.dumps(args, serializer="yaml")
    except EncodeError:
        return False
    return True


def _take(redis: Redis) -> list[dict[str, Any]]:
    """Take all messages from the broker, in the order of their arrival."""
    found = []
    for key in sorted(redis.keys("*")):
        name = key.decode().partition("\x06\x16")[0]
        if name in ("celery", "other", "expiring", "topic"):
            messages = [json.loads(text) for text in reversed(redis.lrange(key, 0, -1))]
            found += [{"key": key.decode(), "ttl": redis.ttl(key), **message} for message in messages]
            redis.delete(key)
    return found


def _shown(message: dict[str, Any]) -> str:
    """Show all of a message, in its order, but what no two messages have in common."""
    headers, properties = message["headers"], message["properties"]
    mark = headers.pop("batches", None)
    assert mark is None or list(mark) == ["bid", "index"]
    task_id = headers["id"]
    assert ID.fullmatch(task_id) and ID.fullmatch(properties["delivery_tag"])
    assert properties["correlation_id"] == task_id
    headers["root_id"] = headers["root_id"].replace(task_id, "its own")
    headers["id"] = properties["correlation_id"] = properties["delivery_tag"] = "some id"
    if ID.fullmatch(properties["reply_to"]):
        properties["reply_to"] = "the app's"
    for name in ("eta", "expires"):
        headers[name] = headers[name] and "some time"
    body = base64.b64decode(message["body"])
    if headers.get("compression"):
        message["body"] = "compressed"
    elif message["content-type"] == "application/json":
        message["body"] = body.decode()
    else:
        message["body"] = serialization.loads(
            body, message["content-type"], message["content-encoding"], accept={message["content-type"]}
        )
    return repr(message)


def _ways(batch: Batch) -> Callable[[], set[str]]:
    """Note how the batch's calls are made."""
    seen: set[str] = set()
    publish = batch._enrolment._publish

    def noting(chunk: Any) -> None:
        publish(chunk)
        for call in chunk.calls:
            way = call.template.way[1] if isinstance(call, TemplateCall) else None
            seen.add(type(way).__name__)

    batch._enrolment._publish = noting  # type: ignore[method-assign]
    return lambda: seen


@pytest.mark.parametrize("name", OPTIONS)
def test_messages_of_a_block_are_those_that_celery_sends(
    pair: tuple[Celery, Celery], redis: Redis, name: str
) -> None:
    batching, plain = pair
    options = OPTIONS[name]
    calls = [(args, {}) for args in ARGUMENTS] + [((1,), kwargs) for kwargs in KEYWORDS]
    batch = Batch(app=batching)
    ways = _ways(batch)
    with batch:
        for args, kwargs in [((), {}), ((), {}), *calls]:
            batching.tasks["any"].apply_async(args, kwargs, **options)
    ours = [_shown(message) for message in _take(redis)][2:]
    for args, kwargs in calls:
        plain.tasks["any"].apply_async(args, kwargs, **options)
    assert ours == [_shown(message) for message in _take(redis)]
    assert ways() == {"NoneType", *WAYS.get(name, [])}


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
def test_messages_of_a_map_are_those_that_celery_sends(
    pair: tuple[Celery, Celery], redis: Redis, serializer: str
) -> None:
    batching, plain = pair
    for app in pair:
        app.tasks["any"].serializer = serializer
    batch = Batch(app=batching)
    ways = _ways(batch)
    arguments = ARGUMENTS if serializer != "yaml" else [args for args in ARGUMENTS if _is_yaml(args)]
    batch.starmap(batching.tasks["any"], [(), (), *arguments])
    taken = _take(redis)
    assert [message["headers"]["batches"]["index"] for message in taken] == list(range(len(taken)))
    ours = [_shown(message) for message in taken][2:]
    for args in arguments:
        plain.tasks["any"].delay(*args)
    assert ours == [_shown(message) for message in _take(redis)]
    assert ways() == {"NoneType", "Stamp"}
