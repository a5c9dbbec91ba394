"""However calls leave, what the broker took, refused or may have taken is known call by call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, Task, signals
from celery.local import Proxy
from redis import Redis
from redis.exceptions import ReadOnlyError

from celery_batches_notify import Batch
from celery_batches_notify.errors import EnqueueError, UnserialisableCall
from celery_batches_notify.messages.templates import TemplateCall
from celery_batches_notify.producer.stamping import Stamp
from celery_batches_notify.testing.server import embedded_server
from tests.support.cut_proxy import cut_proxy

NO_RETRY = {"max_retries": 0}


@pytest.fixture
def broker() -> Iterator[Redis]:
    """A broker of its own, without the store."""
    with embedded_server() as url:
        client = Redis.from_url(url)
        client.url = url  # type: ignore[attr-defined]
        yield client
        client.close()


@pytest.fixture
def make_task(make_app: Callable[..., Celery], broker: Redis) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        base = options.pop("base", None)
        app = make_app(task_default_queue="celery", **{"broker": broker.url, **options})
        return app.task(name="any", shared=False, base=base)(_any)

    return make


def _any(item: object = None) -> None:
    pass


def _ids(broker: Redis) -> list[str]:
    return [json.loads(text)["headers"]["id"] for text in reversed(broker.lrange("celery", 0, -1))]


def _arguments(broker: Redis) -> list[Any]:
    import base64

    texts = [json.loads(text)["body"] for text in reversed(broker.lrange("celery", 0, -1))]
    return [json.loads(base64.b64decode(text))[0] for text in texts]


def _ways(task: Any) -> list[str]:
    templates = task.app.send_task._templates.by_key.values()
    return [type(template.way[1]).__name__ for template in templates if template and template.way]


def test_calls_after_the_second_are_stamped_in_order(make_task: Callable[..., Any], broker: Redis) -> None:
    task = make_task()
    assert Batch(app=task.app).map(task, range(2500)) == 2500
    assert _arguments(broker) == [[number] for number in range(2500)]
    assert _ways(task) == ["Stamp"]


def test_a_shared_task_is_mapped_as_the_apps_own(make_task: Callable[..., Any], broker: Redis) -> None:
    task = make_task()
    shared = task.app.tasks["any"]  # behind a proxy, as `shared_task` returns it
    assert Batch(app=task.app).map(Proxy(lambda: shared), range(5)) == 5
    assert _arguments(broker) == [[number] for number in range(5)]


def test_calls_of_several_tasks_keep_their_order(make_task: Callable[..., Any], broker: Redis) -> None:
    task = make_task()
    other = task.app.task(name="other", shared=False)(_any)
    with Batch(app=task.app) as batch:
        for number in range(300):
            (task if number % 3 else other).delay(number)
    assert _arguments(broker) == [[number] for number in range(300)]
    assert batch.status().total == 300


def test_arguments_are_fixed_when_the_call_is_made(make_task: Callable[..., Any], broker: Redis) -> None:
    task, items = make_task(), []
    with Batch(app=task.app):
        for number in range(10):
            items.append(number)
            task.delay(items)
    assert _arguments(broker) == [[list(range(number + 1))] for number in range(10)]


def test_an_item_that_cannot_be_sent_is_refused_as_ever(make_task: Callable[..., Any], broker: Redis) -> None:
    task = make_task()
    batch = Batch(app=task.app)
    items: list[Any] = [*range(1500), object(), 7]
    with pytest.raises(UnserialisableCall, match="any: this call cannot be sent with the serializer 'json'"):
        batch.map(task, items)
    assert _arguments(broker) == [[number] for number in range(1000)]  # the chunks before it
    assert batch.status().state == "open"


def test_a_call_with_wrong_arguments_is_refused_as_ever(make_task: Callable[..., Any], broker: Redis) -> None:
    task = make_task()
    with pytest.raises(TypeError, match="argument"):
        Batch(app=task.app).starmap(task, [(1,), (1,), (1,), (1, 2)])
    assert not broker.exists("celery")


def test_what_a_full_broker_refused_is_unsent_and_resume_sends_it_once(
    make_task: Callable[..., Any], broker: Redis
) -> None:
    task = make_task(task_publish_retry_policy=NO_RETRY)
    batch = Batch(app=task.app)
    batch._enrolment.open()

    def items() -> Iterator[str]:
        for number in range(1000):
            yield "x" * 2000
            if number == 998:
                used = broker.info("memory")["used_memory"]
                broker.config_set("maxmemory", used + 1_000_000)

    with pytest.raises(EnqueueError) as caught:
        batch.map(task, items())
    assert list(caught.value.sent) == _ids(broker)
    assert 0 < len(caught.value.sent) < 1000
    assert not caught.value.unknown
    assert len(caught.value.sent) + len(caught.value.unsent) == 1000
    broker.config_set("maxmemory", 0)
    batch.resume()
    assert len(set(_ids(broker))) == len(_ids(broker)) == 1000
    assert batch.status().sealed_at is not None


@pytest.mark.parametrize("mode", ["cut_request", "cut_reply"])
def test_what_a_lost_connection_leaves_open_is_unknown_and_resume_sends_it_again(
    make_task: Callable[..., Any], broker: Redis, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    with cut_proxy(broker.url) as (proxy, url):
        task = make_task(broker=url, task_publish_retry=False)
        batch = Batch(app=task.app)
        _fail_at(monkeypatch, 4, lambda: proxy.misbehave(mode))
        with pytest.raises(EnqueueError) as caught:
            batch.map(task, range(1500))
        error, arrived = caught.value, set(_ids(broker))
        assert 0 < len(error.unknown) <= 100
        assert set(error.sent) == arrived - set(error.unknown)
        assert not arrived & set(error.unsent)
        assert (mode == "cut_reply") is (set(error.unknown) <= arrived)
        proxy.behave()
        batch.resume()
        times = Counter(_ids(broker))
        assert len(times) == 1500
        repeated = set(error.unknown) if mode == "cut_reply" else set()
        assert {task_id for task_id, number in times.items() if number > 1} == repeated


def test_what_was_unknown_stays_so_if_the_next_attempt_is_refused(
    make_task: Callable[..., Any], broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cut_proxy(broker.url) as (proxy, url):
        task = make_task(broker=url, task_publish_retry=False)
        batch = Batch(app=task.app)
        _fail_at(monkeypatch, 1, lambda: proxy.misbehave("cut_reply"))
        with pytest.raises(EnqueueError) as caught:
            batch.map(task, range(20))
        proxy.behave()
        _fail_at(monkeypatch, 1, _refuse)
        with pytest.raises(EnqueueError, match="READONLY") as again:
            batch.resume()
        assert again.value.unknown == caught.value.unknown
        batch.resume()


def _refuse() -> None:
    raise ReadOnlyError("READONLY You can't write against a read only replica.")


def test_a_connection_that_comes_back_in_time_is_not_noticed(
    make_task: Callable[..., Any], broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cut_proxy(broker.url) as (proxy, url):
        task = make_task(broker=url)
        _fail_at(monkeypatch, 3, proxy.cut_all)
        assert Batch(app=task.app).map(task, range(800)) == 800
        assert sorted(_arguments(broker)) == [[number] for number in range(800)]


def test_after_a_failover_messages_go_to_the_next_broker(
    make_task: Callable[..., Any], broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cut_proxy(broker.url) as (proxy, url):
        task = make_task(broker=f"{url};{broker.url}")
        _fail_at(monkeypatch, 3, lambda: proxy.misbehave("refuse"))
        assert Batch(app=task.app).map(task, range(800)) == 800
        assert sorted(_arguments(broker)) == [[number] for number in range(800)]


def _fail_at(monkeypatch: pytest.MonkeyPatch, nth: int, happen: Callable[[], object]) -> None:
    """Let something happen before the nth command with messages."""
    left = [nth]
    push = Stamp._push

    def failing(self: Stamp, *args: Any) -> None:
        left[0] -= 1
        if not left[0]:
            happen()
        push(self, *args)

    monkeypatch.setattr(Stamp, "_push", failing)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The ids of the calls whose publishing was announced."""
    ids: list[str] = []

    def listen(headers: dict[str, Any], **_: Any) -> None:
        ids.append(headers["id"])

    signals.before_task_publish.connect(listen)
    yield ids
    signals.before_task_publish.disconnect(listen)


def test_calls_with_listeners_are_sent_by_celery_and_leave_together(
    make_task: Callable[..., Any], broker: Redis, heard: list[str]
) -> None:
    task = make_task()
    Batch(app=task.app).map(task, range(250))
    assert heard == _ids(broker)
    pushes = broker.info("commandstats")["cmdstat_lpush"]["calls"]
    assert pushes == 250
    assert _ways(task) == []


def test_calls_that_left_together_are_unknown_if_their_reply_is_lost(
    make_task: Callable[..., Any], broker: Redis, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kombu.transport import redis as transport

    if not hasattr(transport, "PublishBatch"):
        pytest.skip("needs a kombu that publishes messages together")
    with cut_proxy(broker.url) as (proxy, url):
        task = make_task(broker=url, task_publish_retry=False)
        batch = Batch(app=task.app)
        flush = transport.PublishBatch.flush

        def failing(self: Any) -> None:
            proxy.misbehave("cut_reply")
            flush(self)

        monkeypatch.setattr(transport.PublishBatch, "flush", failing)
        with pytest.raises(EnqueueError) as caught:
            batch.map(task, range(150))
        arrived = set(_ids(broker))
        assert arrived
        assert set(caught.value.sent) <= arrived <= set(caught.value.sent) | set(caught.value.unknown)
        proxy.behave()
        monkeypatch.undo()
        batch.resume()
        assert len(set(_ids(broker))) == 150


def test_a_task_with_its_own_apply_async_is_asked_for_each_call(
    make_task: Callable[..., Any], broker: Redis
) -> None:
    asked = []

    class Own(Task):
        def apply_async(self, args: Any = None, *more: Any, **options: Any) -> Any:
            asked.append(args)
            return super().apply_async(args, *more, **options)

    task = make_task(base=Own)
    Batch(app=task.app).map(task, range(20))
    assert asked == [(number,) for number in range(20)]
    assert len(_ids(broker)) == 20


def test_an_option_that_is_no_plain_value_is_sent_as_ever(
    make_task: Callable[..., Any], broker: Redis
) -> None:
    task = make_task()
    with Batch(app=task.app):
        for number in range(4):
            task.apply_async((number,), time_limit=[5])
    limited = task.app.task(name="limited", shared=False, time_limit=[5])(_any)
    Batch(app=task.app).map(limited, range(4))
    limits = [json.loads(text)["headers"]["timelimit"] for text in broker.lrange("celery", 0, -1)]
    assert limits == [[[5], None]] * 8


def test_what_kombu_writes_otherwise_is_left_to_kombu(
    make_task: Callable[..., Any], broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kombu.transport import redis as transport

    put = transport.Channel._put
    number = iter(range(100))

    def other(self: Any, queue: str, message: dict[str, Any], **options: Any) -> None:
        put(self, queue, {**message, "number": next(number)}, **options)

    monkeypatch.setattr(transport.Channel, "_put", other)
    task = make_task()
    Batch(app=task.app).map(task, range(20))
    numbers = [json.loads(text)["number"] for text in reversed(broker.lrange("celery", 0, -1))]
    assert numbers == list(range(2, 22)) or len(set(numbers)) == 20


def test_a_changed_setting_is_in_the_next_batch(make_task: Callable[..., Any], broker: Redis) -> None:
    task = make_task()
    Batch(app=task.app).map(task, [["a" * 50]] * 5)
    task.app.amqp.argsrepr_maxsize = 20
    broker.delete("celery")
    Batch(app=task.app).map(task, [["a" * 50]] * 5)
    shown = {json.loads(text)["headers"]["argsrepr"] for text in broker.lrange("celery", 0, -1)}
    assert len(shown) == 1 and len(shown.pop()) < 40


def test_a_forked_process_is_the_origin_of_its_messages(
    make_task: Callable[..., Any], broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery.app import amqp

    task = make_task()
    Batch(app=task.app).map(task, range(5))
    monkeypatch.setattr(amqp, "anon_nodename", lambda: "gen-of-the-child")
    monkeypatch.setattr("os.getpid", lambda: 4_000_000)
    broker.delete("celery")
    Batch(app=task.app).map(task, range(5))
    assert {json.loads(text)["headers"]["origin"] for text in broker.lrange("celery", 0, -1)} == {
        "gen-of-the-child"
    }


def test_a_waiting_call_takes_less_than_700_bytes(make_task: Callable[..., Any]) -> None:
    import tracemalloc

    task = make_task()
    batch = Batch(app=task.app)
    tracemalloc.start()
    try:
        with batch:
            for _ in range(100):
                task.delay(7)
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(5000):
                task.delay(7)
            assert (tracemalloc.get_traced_memory()[0] - before) / 5000 < 700
            assert isinstance(batch._intake._block.last(), TemplateCall)
    finally:
        tracemalloc.stop()
