"""RabbitMQ: confirms are waited for once for many messages, and each refusal is known by its message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Queue

from celery_batches_notify import Batch
from celery_batches_notify.errors import EnqueueError
from celery_batches_notify.producer.preparing import Prepared
from celery_batches_notify.producer.properties import Properties
from tests.support.cut_proxy import cut_proxy
from tests.support.servers import need, rabbitmq_url

CONFIRMS = {"confirm_publish": True}


@pytest.fixture
def url() -> str:
    found = rabbitmq_url()
    need("RabbitMQ", found)
    return str(found)


@pytest.fixture
def make_task(make_app: Callable[..., Celery], url: str) -> Iterator[Callable[..., Any]]:
    made: list[tuple[Celery, str]] = []

    def make(*, arguments: dict[str, Any] | None = None, **conf: Any) -> Any:
        name = f"batches-{uuid4().hex}"
        queue = Queue(name, expires=60, queue_arguments=arguments or {})
        app = make_app(**{"broker": url, "task_default_queue": name, "task_queues": [queue], **conf})
        made.append((app, name))
        return app.task(name="any", shared=False)(_any)

    yield make
    for _, name in made:
        with Celery(broker=url, set_as_current=False).connection_for_write() as connection:
            connection.default_channel.queue_delete(name)


def _any(item: object = None) -> None:
    pass


def _take(task: Any, url: str) -> list[Any]:
    """Take the messages from the task's queue."""
    found = []
    with Celery(broker=url, set_as_current=False).connection_for_read() as connection:
        channel = connection.channel()
        while (message := channel.basic_get(task.app.conf.task_default_queue, no_ack=True)) is not None:
            found.append(message)
    return found


def _ids(messages: list[Any]) -> list[str]:
    return [message.headers["id"] for message in messages]


def _ways(task: Any) -> list[Prepared]:
    ways = [template.way[1] for template in task.app.send_task._templates.by_key.values()]
    assert all(isinstance(way, Prepared) for way in ways)
    return ways


@pytest.mark.parametrize("transport", [{}, CONFIRMS])
def test_prepared_messages_arrive_in_order_and_are_celerys_own(
    make_task: Callable[..., Any], url: str, transport: dict[str, Any]
) -> None:
    task = make_task(broker_transport_options=transport)
    assert Batch(app=task.app).map(task, range(250)) == 250
    assert all(way.properties for way in _ways(task))
    messages = _take(task, url)
    assert [message.headers["argsrepr"] for message in messages] == [f"({number},)" for number in range(250)]
    by_celery, *others = map(_shown, messages)
    assert set(others) == {by_celery}


def _shown(message: Any) -> str:
    """Show what all messages of a map have in common, in its order."""
    properties = dict(message.properties)
    headers = dict(properties.pop("application_headers"))
    assert headers["id"] == headers["root_id"] == properties["correlation_id"]
    batch = dict(headers.pop("batches"))
    assert batch.pop("index") >= 0
    varying = dict.fromkeys(("id", "root_id", "argsrepr"), "varies")
    return repr((headers | varying, batch, properties | {"correlation_id": "varies"}))


def test_properties_that_differ_from_py_amqps_are_not_sent(
    make_task: Callable[..., Any], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Properties, "write", lambda *_: b"wrong")
    task = make_task()
    Batch(app=task.app).map(task, range(20))
    assert [way.properties for way in _ways(task)] == [None]
    by_celery, *others = map(_shown, _take(task, url))
    assert len(others) == 19 and set(others) == {by_celery}


def test_each_message_that_the_broker_refuses_is_known(make_task: Callable[..., Any], url: str) -> None:
    full = {"x-max-length": 150, "x-overflow": "reject-publish"}
    task = make_task(arguments=full, broker_transport_options=CONFIRMS)
    batch = Batch(app=task.app)
    with pytest.raises(EnqueueError) as caught:
        batch.map(task, range(300))
    arrived = _ids(_take(task, url))
    assert set(caught.value.sent) == set(arrived)
    assert len(arrived) >= 150
    assert not caught.value.unknown
    while caught.value.unsent:  # the queue was emptied
        try:
            batch.resume()
        except EnqueueError as exc:
            caught.value.unsent = exc.unsent
            arrived += _ids(_take(task, url))
        else:
            break
    arrived += _ids(_take(task, url))
    assert len(arrived) == len(set(arrived)) == 300


@pytest.mark.parametrize("transport", [{}, CONFIRMS])
def test_what_a_lost_connection_leaves_open_is_unknown(
    make_task: Callable[..., Any], url: str, transport: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with cut_proxy(url) as (proxy, through):
        task = make_task(broker=through, broker_transport_options=transport, task_publish_retry=False)
        batch = Batch(app=task.app)
        left = [150]
        publish = Prepared.publish

        def failing(self: Prepared, *args: Any) -> None:
            left[0] -= 1
            if not left[0]:
                proxy.misbehave("refuse")
            publish(self, *args)

        monkeypatch.setattr(Prepared, "publish", failing)
        with pytest.raises(EnqueueError) as caught:
            batch.map(task, range(300))
        assert caught.value.unknown
        proxy.behave()
        batch.resume()
        lost = set(caught.value.sent) - set(_ids(arrived := _take(task, url)))
        assert not (transport and lost), "without confirms, what was sent may lie in a cut connection"
        assert len(set(_ids(arrived)) | lost) == 300


def test_a_connection_that_comes_back_in_time_is_not_noticed(
    make_task: Callable[..., Any], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cut_proxy(url) as (proxy, through):
        task = make_task(broker=through, broker_transport_options=CONFIRMS)
        left = [150]
        publish = Prepared.publish

        def failing(self: Prepared, *args: Any) -> None:
            left[0] -= 1
            if not left[0]:
                proxy.cut_all()
            publish(self, *args)

        monkeypatch.setattr(Prepared, "publish", failing)
        assert Batch(app=task.app).map(task, range(300)) == 300
        assert len(set(_ids(_take(task, url)))) == 300
