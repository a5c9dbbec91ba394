from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery

from celery_batches_notify import Batches, ConfigurationError
from celery_batches_notify.model import Origin
from celery_batches_notify.settings import Settings, find_unknown_settings

URL = "redis://localhost:6379/5"


def settings(**conf: object) -> Settings:
    app = Celery(set_as_current=False)
    app.conf.update({"batches_backend_url": URL, **conf})
    return Settings.from_app(app)


def test_its_own_url_wins_over_result_backend_and_broker() -> None:
    found = settings(result_backend="redis://localhost/1", broker_url="redis://localhost/2")
    assert (found.backend_url, found.backend_source) == (URL, "batches_backend_url")


def test_the_result_backend_is_next_then_the_broker() -> None:
    none = {"batches_backend_url": None, "broker_url": "rediss://localhost/2"}
    assert settings(**none, result_backend="redis://localhost/1").backend_source == "result_backend"
    assert settings(**none, result_backend="db+sqlite:///x").backend_source == "broker_url"


@pytest.mark.parametrize("broker", ["amqp://", "sentinel://localhost", "redis://a;redis://b", "memory://"])
def test_an_app_without_any_plain_redis_is_told_what_to_set(broker: str) -> None:
    with pytest.raises(ConfigurationError, match="set batches_backend_url ="):
        settings(batches_backend_url=None, broker_url=broker)


def test_durations_are_seconds_or_timedeltas() -> None:
    found = settings(batches_expires=90, batches_stall_after=timedelta(minutes=1), batches_linger=30.5)
    assert found.expires == timedelta(seconds=90)
    assert found.stall_after == timedelta(minutes=1)
    assert found.linger == timedelta(seconds=30.5)


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("backend_url", "http://localhost", "redis://, rediss:// or unix:// URL.*, got http://…$"),
        ("backend_url", 7, "redis://, rediss:// or unix:// URL.*, got a value of type int$"),
        ("backend_url", "localhost:6379", r"got localhost:6379 \(did you mean redis://localhost:6379\?\)$"),
        ("backend_url", "redis://a;http://b", "got several with other schemes$"),
        ("backend_options", ["x"], "mapping"),
        ("prefix", "a{b}", "letters"),
        ("prefix", "", "letters"),
        ("web_url", "ops.example.com", "http:// or https://"),
        ("name", "two\nlines", "a string of at most 100 characters on one line, got 'two"),
        ("name", "\u202etxet", "on one line"),
        ("environment", "x" * 101, "at most 100 characters"),
        ("environment", 5, "must be a string of at most 100 characters on one line, got 5"),
        ("notifications", {"email": "me"}, "mapping"),
        ("notifiers", "pager", "mapping"),
        ("callback_queue", "", "must be a non-empty string, got ''"),
        ("callback_tasks", "proj.task", "list of task names"),
        ("expires", 0, "must be a positive duration, got 0 s"),
        ("expires", -1, "must be a positive duration, got -1 s"),
        ("expires", "1 day", "seconds or a timedelta"),
        ("expires", True, "seconds or a timedelta"),
        ("expires", float("nan"), "must be a finite number of seconds"),
        ("expires", 1e300, "must be a finite number of seconds"),
        ("expires", 10**12, "must be at most 36,500 days, got 11,574,074 days"),
        ("dead_expires", timedelta.max, "must be at most 36,500 days"),
        ("linger", 29, "at least 30"),
        ("expires", 29, "at least 3 times batches_sweep_interval, 30 s, got 29 s"),
        ("worker_lease", 4, "at least 5"),
        ("lost_members", "retry", '"dead" or "resend"'),
        ("vanished", "retry", '"leave", "dead" or "resend", got \'retry\''),
        ("vanished_after", 59, "at least 60"),
        ("keep_calls", "yes", "must be True or False, got 'yes'"),
        ("failures_kept", -1, "an integer from 0 to 100,000"),
        ("failures_kept", 1.5, "an integer from 0 to 100,000"),
    ],
)
def test_a_wrong_value_names_the_setting_and_the_mend(name: str, value: object, fix: str) -> None:
    with pytest.raises(ConfigurationError, match=fix) as told:
        settings(**{f"batches_{name}": value})
    assert f"batches_{name}" in str(told.value)


def test_the_system_is_named_by_its_setting_or_else_by_the_app() -> None:
    def origin(main: str | None, **conf: object) -> Origin:
        app = Celery(main, set_as_current=False)
        app.conf.update({"batches_backend_url": URL, **conf})
        return Settings.from_app(app).origin

    assert (str(origin("proj")), origin("proj").app) == ("proj", "proj")
    named = origin("proj", batches_name="Billing", batches_environment="staging", timezone="Europe/Berlin")
    assert (str(named), named.app, str(named.timezone)) == ("Billing (staging)", "proj", "Europe/Berlin")
    assert str(origin(None)) == str(origin("__main__")) == ""


def test_an_unknown_setting_is_named_with_what_it_may_have_meant(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery(set_as_current=False)
    app.conf.update(batches_backend_url=URL, batches_expire=3, BATCHES_LINGER=60, batches_zzz=1)
    assert find_unknown_settings(app) == [
        "BATCHES_LINGER (did you mean batches_linger?)",
        "batches_expire (did you mean batches_expires?)",
        "batches_zzz",
    ]
    assert Batches(app).engine
    assert "unknown setting batches_expire (did you mean batches_expires?)" in caplog.text


@pytest.mark.parametrize(
    "url",
    ["hush", "me:hush@localhost:6379", "localhost:6379,password=hush", "http://:hush@x", "?password=hush"],
)
def test_an_address_that_may_hold_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(batches_backend_url=url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("namespace", ["CELERY", "celery", "BATCHES", "CELERY_"])
def test_a_misspelt_setting_under_a_namespace_is_named_with_its_prefix(namespace: str) -> None:
    def write(name: str) -> str:
        return f"{space}{name.upper()}" if space.isupper() else f"{space}{name}"

    space = namespace.rstrip("_") + "_"
    names = ("batches_lingerr", "batches_zzz", "batches_prefix", "batches_backend_url", "timezone")
    app = Celery(set_as_current=False)
    source = {write(name): value for name, value in zip(names, (1, 2, "x", URL, "UTC"), strict=True)}
    app.config_from_object(source, namespace=namespace)
    assert find_unknown_settings(app) == [
        f"{write('batches_lingerr')} (did you mean {write('batches_linger')}?)",
        write("batches_zzz"),
    ]


def test_a_django_setting_without_the_namespace_is_named_with_it(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery(set_as_current=False)
    source = type("Django", (), {"CELERY_BATCHES_BACKEND_URL": URL, "BATCHES_NOTIFICATION": {}, "DEBUG": 1})
    app.config_from_object(source, namespace="CELERY")
    assert Batches(app).engine
    hint = "unknown setting BATCHES_NOTIFICATION (did you mean CELERY_BATCHES_NOTIFICATIONS?)"
    assert [record.getMessage() for record in caplog.records] == [f"batches: {hint}"]


def test_the_task_protocol_without_headers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="task_protocol"):
        settings(task_protocol=1)


def test_no_password_is_shown_by_its_repr_or_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    app = Celery(set_as_current=False)
    app.conf.update(
        batches_backend_url="redis://:hunter2@localhost:1/0",
        batches_backend_options={"username": "hunter2"},
        batches_notifications={"webhook": {"url": "http://x", "password": "hunter2"}},
    )
    assert Batches(app).engine
    assert "batches live in redis://:**@localhost:1/0 (from batches_backend_url)" in caplog.text
    assert "hunter2" not in caplog.text + repr(Settings.from_app(app))


def test_settings_of_an_app_that_is_configured_later_are_read_later() -> None:
    app = Celery(set_as_current=False)
    batches = Batches(app)
    app.config_from_object({"batches_backend_url": URL, "batches_prefix": "later"})
    assert batches.engine.settings.prefix == "later"


def test_a_namespace_maps_the_settings() -> None:
    app = Celery(set_as_current=False)
    batches = Batches(app)
    source = type("Django", (), {"CELERY_BATCHES_BACKEND_URL": URL, "CELERY_BATCHES_PREFIX": "dj"})
    app.config_from_object(source, namespace="CELERY")
    assert batches.engine.settings.prefix == "dj"


def test_a_configured_app_is_checked_at_once() -> None:
    app = Celery(set_as_current=False)
    app.config_from_object({"batches_backend_url": URL, "batches_linger": 1})
    assert app.conf.task_serializer == "json"  # Celery has read its configuration
    with pytest.raises(ConfigurationError, match="batches_linger"):
        Batches(app)
