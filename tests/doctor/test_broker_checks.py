"""Each finding about the broker, with a broker that is really so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify.doctor.broker_checks import check_broker
from celery_batches_notify.store.findings import Finding
from celery_batches_notify.testing.server import embedded_server
from tests.support.servers import need, rabbitmq_url


def nothing() -> None:
    """Do nothing."""


@contextmanager
def app_at(broker: str, **conf: object) -> Iterator[Celery]:
    app = Celery(set_as_current=False, broker=broker)
    app.conf.update(conf)
    yield app
    app.close()


def found(broker: str, **conf: object) -> dict[str, Finding]:
    with app_at(broker, **conf) as app:
        return {finding.subject: finding for finding in check_broker(app)}


@pytest.fixture(scope="module")
def redis_broker() -> Iterator[str]:
    with embedded_server() as url:
        yield url


def test_of_brokers_as_they_should_be_there_is_nothing_to_say(redis_broker: str) -> None:
    assert not found(redis_broker)
    assert not found("memory://")


def test_rabbitmq_without_confirms_may_drop_messages_silently() -> None:
    url = rabbitmq_url()
    need("RabbitMQ", url)
    assert '{"confirm_publish": True}' in found(str(url))["confirms"].words
    assert not found(str(url), broker_transport_options={"confirm_publish": True})


def test_an_amqp_broker_is_not_asked_for_it() -> None:
    """Its settings say all: a worker's start does not wait for it."""
    assert set(found("amqp://nobody@127.0.0.1:1//")) == {"confirms"}


def test_a_redis_that_drops_messages(redis_broker: str) -> None:
    with Redis.from_url(redis_broker) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert "allkeys-lru" in found(redis_broker)["broker eviction"].words
        client.config_set("maxmemory-policy", "noeviction")


def test_a_redis_that_is_away_is_told_without_its_password() -> None:
    finding = found("redis://:hunter2@127.0.0.1:1/0")["broker"]
    assert "does not answer" in finding.words
    assert "hunter2" not in finding.words


def test_a_late_task_that_may_run_for_longer_than_its_message_is_hidden(redis_broker: str) -> None:
    with app_at(redis_broker, broker_transport_options={"visibility_timeout": 60}) as app:
        app.task(nothing, name="early", time_limit=100)
        app.task(nothing, name="short", time_limit=30, acks_late=True)
        assert not check_broker(app), "an early one is acknowledged before it runs"
        app.task(nothing, name="long", time_limit=90, acks_late=True)
        (finding,) = check_broker(app)
    assert finding.subject == "visibility"
    assert "after 60 s" in finding.words and "long may run for 90 s" in finding.words


def test_the_limit_of_the_whole_app_counts_too(redis_broker: str) -> None:
    conf = {"task_time_limit": 7200, "task_acks_late": True}
    with app_at(redis_broker, **conf) as app:
        app.task(nothing, name="proj.any")
        (finding,) = check_broker(app)
    assert "3600 s" in finding.words and "7200 s" in finding.words
