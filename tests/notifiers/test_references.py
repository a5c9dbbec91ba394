"""`env:NAME`: read in place of a secret, never in a text, and never shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, ConfigurationError, InvalidCallback, NotificationFailed
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.base import build_notifier, send_once
from celery_batches_notify.notifiers.email import Email
from celery_batches_notify.notifiers.mailer import Letter
from celery_batches_notify.notifiers.webhook import Webhook
from tests.support import samples
from tests.support.http_server import answer, serving
from tests.support.smtp_server import SmtpServer

CANARY = "CANARYdjango-secret"
REFERENCE = "env:CANARY_VARIABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Talkative:
    """Repeats its options in its replies and errors."""

    name: ClassVar[str] = "talkative"
    secrets: ClassVar[frozenset[str]] = frozenset({"key"})
    credentials: ClassVar[frozenset[str]] = frozenset()
    room: str = ""
    key: str | None = field(default=None, repr=False)
    mood: str = "answers"

    def __post_init__(self) -> None:
        if self.mood == "refuses" and not self.room.startswith("env:"):
            raise KeyError(self.room)

    def send(self, notification: Notification) -> str:
        if self.mood == "fails":
            raise NotificationFailed(f"{self.room} and {self.key}")
        if self.mood == "breaks":
            raise RuntimeError(f"{self.room} and {self.key}")
        if self.mood == "is silent":
            return None  # type: ignore[return-value]
        return f"{self.room} and {self.key}"


@pytest.fixture(autouse=True)
def variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_VARIABLE", CANARY)


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app(
        batches_notifiers={"talkative": f"{__name__}.Talkative"},
        batches_notifications={"email": {"to": "ops@x.test", "from": "celery@x.test", "via": "test"}},
    )


@pytest.fixture
def everything(redis: Redis, caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """The texts in the store, the log and the delivery log."""
    caplog.set_level(logging.DEBUG)

    def look() -> str:
        dumped = [redis.dump(key) or b"" for key in redis.keys("*")]
        return caplog.text + b"".join(dumped).decode("latin-1")

    return look


def run(app: Celery, batch: Batch) -> str:
    batch.seal()
    return str(app._batches_extension.engine.attempts.run(batch.bid, "complete:0"))


# -- what people write is text ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [("subject", REFERENCE), ("headers", {"X-Title": REFERENCE}), ("reply_to", f'"{REFERENCE}" <a@x.test>')],
)
def test_a_text_that_looks_like_a_reference_is_mailed_as_it_is(
    app: Celery, outbox: list[Letter], option: str, value: Any
) -> None:
    run(app, Batch(app=app).on("complete", "email", **{option: value}))
    (letter,) = outbox
    assert REFERENCE in str(letter.message)
    assert CANARY not in str(letter.message)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("email", {"to": REFERENCE}, "to: .*is not an address"),
        ("email", {"smtp_envelope_to": [REFERENCE]}, "smtp_envelope_to: .*is not an address"),
        ("email", {"via_options": {"port": REFERENCE}}, "via_options: port must be a port"),
        ("webhook", {"url": REFERENCE}, "url is not an HTTP address"),
        ("webhook", {"url": "https://x.test", "username": REFERENCE, "password": REFERENCE}, "username"),
        ("hipchat", {"roomid": 1, "url": REFERENCE, "token": REFERENCE}, "url is not an HTTP address"),
    ],
)
def test_a_reference_in_place_of_an_address_or_a_name_is_refused_by_on(
    app: Celery, kind: str, options: dict[str, Any], words: str
) -> None:
    options = {"via": "smtp", **options} if kind == "email" else options
    with pytest.raises(ConfigurationError, match=f"^{kind}: {words}"):
        Batch(app=app).on("complete", kind, **options)


def test_a_writer_to_the_store_gets_no_variable_into_a_text(app: Celery, outbox: list[Letter]) -> None:
    registry = app._batches_extension.engine.registry
    registry.build("email", {"subject": REFERENCE}).send(samples.notification())
    assert outbox[0].message["Subject"] == REFERENCE


def test_on_reads_the_options_that_the_notifier_names_as_secrets(app: Celery) -> None:
    registry = app._batches_extension.engine.registry
    assert registry.build("talkative", {"key": REFERENCE}).key == CANARY
    login = {"user_name": "u", "password": REFERENCE}
    built = registry.build("email", {"via": "smtp", "via_options": login})
    assert built.via_options == {"user_name": "u", "password": CANARY}
    with pytest.raises(InvalidCallback, match="key is a secret"):
        Batch(app=app).on("complete", "talkative", key=[REFERENCE])


def test_the_configuration_may_refer_to_the_environment_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_TO", "ops@x.test")
    configured = {"to": ["env:T_TO"], "subject": REFERENCE, "headers": {"X-Team": REFERENCE}, "via": "test"}
    built = build_notifier(Email, configured)  # type: ignore[type-abstract]
    assert (built.to, built.subject, built.headers) == (["ops@x.test"], CANARY, {"X-Team": CANARY})  # type: ignore[attr-defined]


# -- what was read is not repeated ------------------------------------------------------------------


@pytest.mark.parametrize("value", [CANARY, f"ops@x.test, {CANARY}", f"<{CANARY}", f"a\\{CANARY}'b", "x y"])
def test_an_error_about_a_value_names_the_variable_and_not_the_value(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("CANARY_VARIABLE", value)
    with pytest.raises(ConfigurationError) as caught:
        build_notifier(Email, {"to": REFERENCE, "via": "test"})  # type: ignore[type-abstract]
    assert "email: the environment of this process holds no usable value for to (env:CANARY_VARIABLE)" in str(
        caught.value
    )
    assert "CANARYdj" not in str(caught.value) and "x y" not in str(caught.value)


def test_an_error_that_repeats_no_value_keeps_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_VARIABLE", "xyzzy")
    configured = {"url": "https://x.test", "secret": REFERENCE}
    with pytest.raises(ConfigurationError, match="make one with new_secret"):
        build_notifier(Webhook, configured)
    with pytest.raises(ConfigurationError, match="to: 'ops' is not an address"):
        build_notifier(Email, {"to": "ops", "subject": REFERENCE, "reply_to": REFERENCE})  # type: ignore[type-abstract]


@pytest.mark.parametrize("mood", ["answers", "fails", "breaks", "refuses"])
def test_neither_store_nor_log_holds_a_value_of_the_environment(
    make_app: Callable[..., Celery], everything: Callable[[], str], mood: str
) -> None:
    app = make_app(
        batches_notifiers={"talkative": f"{__name__}.Talkative"},
        batches_notifications={"talkative": {"room": REFERENCE, "key": REFERENCE, "mood": mood}},
    )
    batch = Batch(app=app).on("complete", "talkative")
    said = run(app, batch)
    (line,) = batch.deliveries()
    assert REFERENCE in line.detail and REFERENCE in said
    assert CANARY not in said + line.detail + everything()


def test_a_mail_servers_answer_brings_no_address_of_the_environment_into_the_log(
    smtp_server: Callable[..., SmtpServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T_TO", "hidden@x.test, other@x.test")
    server = smtp_server(answers={f"{name}@x.test": ["550 no such user"] for name in ("hidden", "other")})
    via = {"address": "127.0.0.1", "port": server.port}
    configured = {"to": "env:T_TO", "from": "c@x.test", "via": "smtp", "via_options": via}
    with pytest.raises(NotificationFailed) as caught:
        send_once(build_notifier(Email, configured), samples.notification())  # type: ignore[type-abstract]
    assert "refused for good: env:T_TO (550 no such user), env:T_TO (550 no such user)" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_of_an_address_of_the_environment_the_origin_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answer(404)) as server:
        monkeypatch.setenv("HOOK_URL", f"{server.url}/{CANARY}?token={CANARY}")
        with pytest.raises(NotificationFailed, match=f"^{server.url}: answered 404 Not Found$"):
            send_once(build_notifier(Webhook, {"url": "env:HOOK_URL"}), samples.notification())


def test_a_notifier_that_answers_with_no_text_has_sent_all_the_same() -> None:
    silent = build_notifier(Talkative, {"key": REFERENCE, "mood": "is silent"})  # type: ignore[type-abstract]

    assert send_once(silent, samples.notification()) == "None"
