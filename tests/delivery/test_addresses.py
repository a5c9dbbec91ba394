"""Addresses: which notifications share one, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from celery import Celery
from celery.app.task import Context
from redis import Redis

from celery_batches_notify import Batch, ConfigurationError, InvalidCallback
from celery_batches_notify.delivery.addresses import address_of
from celery_batches_notify.delivery.attempt import HARD_LIMIT_SECONDS, SOFT_LIMIT_SECONDS
from celery_batches_notify.delivery.settling import ending_of
from celery_batches_notify.messages.headers import DELIVER_TASK
from celery_batches_notify.model import Notification
from celery_batches_notify.worker.outcomes import dead
from tests.support.http_server import answer, serving
from tests.support.smtp_server import serving_smtp

WEBHOOK = {"url": "https://hooks.example.com/a?token=CANARY"}
MAIL = {"to": "a@x.test", "from": "b@x.test", "via": "smtp"}
LOGIN = {"user_name": "ann", "password": "CANARY", "enable_starttls": True}
ROOM = {"roomid": 1, "token": "CANARY"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Older:
    """A notifier from before addresses were more than a host."""

    name: ClassVar[str] = "older"
    secrets: ClassVar[frozenset[str]] = frozenset({"key"})
    credentials: ClassVar[frozenset[str]] = frozenset()
    key: str = field(repr=False, default="CANARY")
    receiver: int = 7  # an option of its own of that name
    give_up_after: str = "never"  # and of this one

    def send(self, notification: Notification) -> str:
        return f"{self.receiver} {self.give_up_after}"


@pytest.fixture
def make(make_app: Callable[..., Celery]) -> Callable[..., Celery]:
    def make(**profiles: Any) -> Celery:
        notifications = {name.replace("__", ":"): options for name, options in profiles.items()}
        return make_app(batches_notifications=notifications, batches_notifiers={"older": f"{__name__}.Older"})

    return make


def mail(**via: object) -> dict[str, Any]:
    return {**MAIL, "via_options": {"address": "mx.test", **LOGIN, **via}}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("webhook", WEBHOOK), ("webhook", WEBHOOK), True),
        (("webhook", WEBHOOK), ("webhook", {"url": "https://hooks.example.com/b?token=CANARY"}), False),
        (("webhook", WEBHOOK), ("webhook", {"url": "https://hooks.example.com/a?token=OTHER"}), False),
        (("webhook:a", WEBHOOK), ("webhook:b", WEBHOOK), False),
        (("slack", WEBHOOK), ("webhook", WEBHOOK), False),
        (("email", mail()), ("email", {**mail(), "to": "c@x.test"}), True),
        (("email", mail()), ("email", mail(port=26)), False),
        (("email", mail()), ("email", mail(user_name="bob")), False),
        (("email:a", mail()), ("email:b", mail()), False),
        (("hipchat", ROOM), ("hipchat", {**ROOM, "roomid": 2}), False),
        (("campfire", {**ROOM, "subdomain": "a"}), ("campfire", {**ROOM, "subdomain": "b"}), False),
        (("apprise", {"urls": "ntfy://a"}), ("apprise", {"urls": "ntfy://b"}), False),
        (("apprise", {"urls": "ntfy://a"}), ("apprise", {"urls": ["ntfy://a"]}), True),
        (("older", {}), ("older", {"key": "x"}), True),
        (("older:a", {}), ("older:b", {}), False),
    ],
)
def test_only_what_fails_together_has_one_address(
    make: Callable[..., Celery], one: tuple[str, dict], other: tuple[str, dict], same: bool
) -> None:
    addresses = []
    for name, options in (one, other):
        registry = make(**{name.replace(":", "__"): options})._batches_extension.engine.registry
        addresses.append(address_of(name, registry.build(name, {})))
    assert (addresses[0].key == addresses[1].key) == same
    assert "CANARY" not in "".join(map(str, addresses))
    assert "ann" not in "".join(map(str, addresses))


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("webhook:a", WEBHOOK, "https://hooks.example.com"),
        ("email", mail(port=587), "smtp://mx.test:587"),
        ("email", {**mail(), "override_options": {"via_options": {"address": "m2.test"}}}, "smtp://m2.test"),
        ("apprise:ops", {"urls": "tgram://CANARY/1"}, "apprise:ops"),
        ("campfire", {**ROOM, "subdomain": "acme"}, "https://acme.campfirenow.com"),
        ("older", {}, "older"),
    ],
)
def test_of_an_address_no_more_is_shown_than_its_origin(
    make: Callable[..., Celery], name: str, options: dict, shown: str
) -> None:
    registry = make(**{name.replace(":", "__"): options})._batches_extension.engine.registry
    assert address_of(name, registry.build(name, {})).shown == shown


# -- where something waits, it is said ----------------------------------------------------------------


def run(app: Celery, batch: Batch) -> str:
    return app._batches_extension.engine.attempts.run(batch.bid, "complete:0")


def fired(app: Celery, channel: str = "webhook", **options: object) -> Batch:
    batch = Batch(app=app).on("complete", channel, **options)
    batch.seal()
    return batch


def test_status_and_delivery_log_say_what_is_waited_for_and_until_when(make: Callable[..., Celery]) -> None:
    with serving(answer(503)) as server:
        app = make(webhook={"url": f"{server.url}/secret-path"})
        first, second = fired(app), fired(app)
        run(app, first)
        run(app, second)
        run(app, second)
        assert len(server.received) == 1
    for batch, attempts in ((first, 1), (second, 0)):
        (callback,) = batch.status().callbacks
        assert (callback.state, callback.attempts, callback.waits_for) == ("due", attempts, server.url)
        (shown,) = batch.status().as_dict()["callbacks"]
        assert shown["waits_for"] == server.url
        assert shown["waits_until"] == callback.waits_until.isoformat()
        assert "secret-path" not in json.dumps(batch.status().as_dict())
    (line,) = second.deliveries()
    assert (line.outcome, line.attempt) == ("waiting", 0), "once, however often it is put off"
    assert line.detail.startswith(f"not tried: {server.url} is left alone, because it failed, until 20")


def test_what_waits_for_nothing_says_nothing(make: Callable[..., Celery]) -> None:
    with serving() as server:
        batch = fired(make(webhook={"url": server.url}))
        keys = {"event", "n", "target", "state", "attempts"}
        assert [c.keys() for c in batch.status().as_dict()["callbacks"]] == [keys]


def test_a_busy_receiver_costs_no_attempt_and_keeps_its_pace(make: Callable[..., Celery]) -> None:
    with serving(answer(429, Retry_After=40)) as server:
        app = make(webhook={"url": server.url})
        batch, other = fired(app), fired(app)
        run(app, batch)
        run(app, other)
        assert len(server.received) == 1
    for each in (batch, other):
        assert [(c.state, c.attempts) for c in each.status().callbacks] == [("due", 0)]
    (line,) = batch.deliveries()
    assert (line.outcome, line.status_code) == ("waiting", 429)
    assert f"{server.url} is busy" in line.detail


@pytest.mark.parametrize("status", [401, 403, 409, 425])
def test_one_path_that_refuses_closes_no_other(make: Callable[..., Celery], status: int) -> None:
    with serving(lambda h: answer(status if h.path == "/a" else 200)(h)) as server:
        app = make(webhook={"url": f"{server.url}/a"})
        run(app, fired(app))
        assert run(app, fired(app, url=f"{server.url}/b")) == "200 OK"


@pytest.mark.parametrize("code", ["450 busy", "452 full", "421 too many"])
def test_a_mailbox_that_is_full_closes_no_other(make: Callable[..., Celery], code: str) -> None:
    with serving_smtp(answers={"full@x.test": [code] * 9}) as server:
        via = {"address": "127.0.0.1", "port": server.port}
        app = make(email={**MAIL, "via_options": via})
        full = fired(app, "email", to="full@x.test")
        assert "failed" in run(app, full)
        assert full.status().callbacks[0].waits_for is None
        assert "accepted for 1 of 1" in run(app, fired(app, "email"))


def test_a_profile_that_a_worker_does_not_have_is_tried_again_and_closes_nothing(
    make: Callable[..., Celery], redis: Redis
) -> None:
    with serving() as server:
        app = make(webhook__billing={"url": server.url})
        batch = fired(app, "webhook:billing")
        assert "there is no profile" in run(make(), batch)
        assert not list(redis.scan_iter("batches:address:*"))
        assert batch.redeliver("complete", all=True) in (0, 1)
        assert run(app, batch) == "200 OK"


# -- limits ---------------------------------------------------------------------------------------


def limit_of(app: Celery, batch: Batch) -> int:
    engine = app._batches_extension.engine
    return int(engine.store.client.hget(engine.store.keys.batch(batch.bid), "give_up_after:complete:0"))


def test_the_time_for_a_delivery_is_a_setting_a_profiles_and_an_option(make: Callable[..., Celery]) -> None:
    with serving() as server:
        app = make(webhook={"url": server.url}, webhook__fast={"url": server.url, "give_up_after": 60})
        assert limit_of(app, fired(app)) == 97_200_000
        app._batches_extension.reset()
        app.conf.batches_give_up_after = timedelta(hours=2)
        assert limit_of(app, fired(app)) == 7_200_000
        assert limit_of(app, fired(app, "webhook:fast")) == 60_000
        assert limit_of(app, fired(app, "webhook:fast", give_up_after=timedelta(seconds=5))) == 5_000
        told = app.tasks[DELIVER_TASK].si()
        batch = Batch(app=app).on("complete", told, give_up_after=9)
        batch.seal()
        assert limit_of(app, batch) == 9_000
        assert run(app, fired(app, "webhook:fast")) == "200 OK", "the notifier is not given it"


@pytest.mark.parametrize("wrong", [0, -1, "2h", True, 0.5])
def test_a_wrong_duration_is_an_error_where_it_is_written(make: Callable[..., Celery], wrong: object) -> None:
    app = make(webhook={"url": "https://x.test", "give_up_after": wrong})
    with pytest.raises(ConfigurationError, match=r"batches_notifications\['webhook'\]\['give_up_after'\]"):
        Batch(app=app).on("complete", "webhook")
    with pytest.raises(InvalidCallback, match="give_up_after"):
        Batch(app=app).on("complete", "webhook", give_up_after=wrong)


def test_a_notifiers_own_option_of_that_name_stays_its_own(make: Callable[..., Celery]) -> None:
    app = make(older={"give_up_after": "soon"})
    assert run(app, fired(app, "older")) == "7 soon"
    assert run(app, fired(app, "older", give_up_after="at once")) == "7 at once"


def test_the_task_has_limits_of_its_own_above_any_notifiers(make_app: Callable[..., Celery]) -> None:
    app = make_app(task_time_limit=3, task_soft_time_limit=2)
    task = app.tasks[DELIVER_TASK]
    assert (task.soft_time_limit, task.time_limit) == (SOFT_LIMIT_SECONDS, HARD_LIMIT_SECONDS)
    assert 300 < SOFT_LIMIT_SECONDS < HARD_LIMIT_SECONDS


@pytest.mark.parametrize("name", ["TimeLimitExceeded", "SoftTimeLimitExceeded"])
def test_a_time_limit_that_strikes_is_a_failed_attempt(name: str) -> None:
    from billiard import exceptions

    request = Context(id="cb_x_complete_0")
    outcome = dead(request, DELIVER_TASK, "failed", getattr(exceptions, name)(3))
    ending = ending_of(DELIVER_TASK, outcome, lost=False)
    assert ending is not None
    assert (ending.happened, ending.delay_seconds) == ("lost", 300)
