from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import pytest
from celery import Celery, chain, chord, group
from redis import Redis

from celery_batches_notify import Batch, ConfigurationError, InvalidCallback
from celery_batches_notify.model import Notification


@dataclass(frozen=True, slots=True, kw_only=True)
class Pager:
    name: ClassVar[str] = "pager"
    secrets: ClassVar[frozenset[str]] = frozenset({"key", "deep.key"})
    credentials: ClassVar[frozenset[str]] = frozenset({"user"})
    to: str
    key: str | None = None
    user: str | None = None
    url: str | None = None
    deep: dict[str, object] | None = None

    def __post_init__(self) -> None:
        if not self.to:
            raise ValueError("to: give somebody")

    def send(self, notification: Notification) -> str:
        return f"paged {self.to}"


@dataclass(frozen=True)
class Nameless:
    def send(self, notification: Notification) -> str:
        return ""


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app(
        batches_notifiers={"pager": f"{__name__}.Pager"},
        batches_notifications={
            "pager": {"to": "all", "user": "me", "url": "https://a/x"},
            "pager:boss": {"to": "boss"},
        },
        batches_callback_tasks=["elsewhere"],
    )
    app.task(told, name="told", shared=False)
    return app


def targets(batch: Batch) -> list[str]:
    with batch:
        pass
    return [c.target for c in batch.status().callbacks]


def test_notifiers_are_named_by_class_name_and_profile(app: Celery) -> None:
    batch = Batch(app=app).on("complete", Pager).on("death", "pager").on("finish", "pager:boss", to="chief")
    assert targets(batch) == ["pager", "pager", "pager:boss"]


def test_signatures_are_named_by_their_tasks(app: Celery) -> None:
    told = app.tasks["told"]
    batch = Batch(app=app).on("complete", told.s(secret="x")).on("complete", chain(told.s(), told.si()))
    batch.on("complete", group(told.s(), told.s())).on("complete", chord([told.s()], told.s()))
    batch.on("complete", app.signature("elsewhere"))
    assert targets(batch) == ["told", "told | told", "told | told", "told | told", "elsewhere"]


@pytest.mark.parametrize(
    ("event", "target", "options", "fix"),
    [
        (
            "done",
            "pager",
            {},
            "no event 'done'; take 'finish' .*; the events are cancel, deadline, .*success",
        ),
        ("complete", "carrier-pigeon", {}, "no notifier 'carrier-pigeon'; there are apprise, .*pager"),
        ("complete", "pager:nobody", {}, "no profile 'pager:nobody': describe it in batches_notifications"),
        ("complete", Nameless, {}, "has a name and a send method"),
        ("complete", 7, {}, "has a name and a send method"),
        ("complete", "pager", {"to": object()}, "must be JSON"),
        ("complete", "pager", {"to": "x" * 17000}, "at most 16384 bytes"),
        ("complete", "pager", {"key": "hush"}, r"key is a secret .*on\(event, .pager:NAME.\).*env:NAME"),
        ("complete", "pager", {"deep": {"key": "hush"}}, "deep.key is a secret"),
        ("complete", "pager", {"url": "https://me:hush@host/"}, "the url holds a password"),
    ],
    ids=[f"case{i}" for i in range(10)],
)
def test_what_cannot_be_called_back_is_refused_with_the_fix(
    app: Celery, redis: Redis, event: str, target: object, options: dict[str, object], fix: str
) -> None:
    with pytest.raises(InvalidCallback, match=fix) as told:
        Batch(app=app).on(event, target, **options)
    assert "hush" not in str(told.value)
    assert redis.dbsize() == 0


def test_options_that_make_no_notifier_are_refused(app: Celery) -> None:
    with pytest.raises(
        ConfigurationError, match=r"pager: there is no option .colour.; its options are to, key"
    ):
        Batch(app=app).on("complete", "pager", colour="red")
    with pytest.raises(ConfigurationError, match="pager: to: give somebody"):
        Batch(app=app).on("complete", "pager", to="")


def test_a_time_limit_may_be_a_timedelta_as_in_the_configuration(app: Celery) -> None:
    url = "http://127.0.0.1/hook"
    batch = Batch(app=app).on("complete", "webhook", url=url, timeout=timedelta(seconds=1.5))
    [stored] = batch._declaration._callbacks
    assert stored["options"]["timeout"] == 1.5


def test_an_unregistered_task_is_refused_also_inside_a_canvas(app: Celery) -> None:
    for signature in (
        app.signature("nowhere"),
        chain(app.tasks["told"].s(), app.signature("nowhere")),
        group(app.signature("nowhere")),
        chord([app.tasks["told"].s()], app.signature("nowhere")),
        chord([app.signature("nowhere")], app.tasks["told"].s()),
    ):
        with pytest.raises(
            InvalidCallback, match=r"'nowhere' is not registered here: .*batches_callback_tasks"
        ):
            Batch(app=app).on("complete", signature)


def test_a_signature_takes_no_options_and_must_be_json(app: Celery) -> None:
    with pytest.raises(InvalidCallback, match="options are for notifiers"):
        Batch(app=app).on("complete", app.tasks["told"].s(), queue="x")
    with pytest.raises(InvalidCallback, match="must be JSON"):
        Batch(app=app).on("complete", app.tasks["told"].s(object()))


def test_a_batch_takes_32_callbacks(app: Celery) -> None:
    batch = Batch(app=app)
    for _ in range(32):
        batch.on("complete", "pager")
    with pytest.raises(InvalidCallback, match="at most 32"):
        batch.on("success", "pager")


def test_a_class_that_workers_cannot_find_says_how_to_register_it(make_app: Callable[..., Celery]) -> None:
    with pytest.raises(InvalidCallback, match="no notifier 'pager'"):
        Batch(app=make_app()).on("complete", Pager)
    other = make_app(batches_notifiers={"pager": "celery_batches_notify.notifiers.webhook.Webhook"})
    with pytest.raises(InvalidCallback, match=rf'batches_notifiers = \{{"pager": "{__name__}.Pager"\}}'):
        Batch(app=other).on("complete", Pager)


def test_an_environment_reference_is_stored_as_it_is(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app).on("complete", "pager", key="env:PAGER_KEY")
    batch.seal()
    assert b"env:PAGER_KEY" in redis.get(f"batches:{{{batch.bid}}}:callbacks")


def test_a_callback_keeps_the_hash_of_its_batch_compact(app: Celery, redis: Redis) -> None:
    batch = Batch("a description", tags=["customer:42"], app=app).on("complete", "pager", key="env:PAGER_KEY")
    batch.seal()
    assert redis.object("encoding", f"batches:{{{batch.bid}}}") in (b"listpack", b"ziplist")


def test_credentials_stay_with_the_configured_origin(app: Celery) -> None:
    registry = app._batches_extension.engine.registry
    assert registry.build("pager", {"url": "https://a/other"}).user == "me"
    assert registry.build("pager", {"url": "https://b/"}).user is None
    assert registry.build("pager:boss", {}).user is None


def test_an_environment_reference_is_read_when_sending(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = app._batches_extension.engine.registry
    with pytest.raises(ConfigurationError, match="environment variable PAGER_KEY: set it"):
        registry.build("pager", {"key": "env:PAGER_KEY"})
    monkeypatch.setenv("PAGER_KEY", "hush")
    assert registry.build("pager", {"key": "env:PAGER_KEY"}).key == "hush"
