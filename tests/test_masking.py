"""Celery's own reports show our settings without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from celery_batches_notify import Batches

MASK = "********"
NOTIFICATIONS = {
    "slack": {"url": "https://hooks.slack.com/services/SENTINEL", "timeout": 3},
    "webhook:a": {"url": "env:HOOK", "headers": {"Authorization": "SENTINEL"}, "secret": ["SENTINEL"]},
    "apprise": {"urls": ["tgram://SENTINEL", "env:NTFY"]},
    "email": {"via_options": {"address": "smtp.x", "port": 25, "password": "SENTINEL"}},
}
SETTINGS: dict[str, Any] = {
    "batches_backend_url": "sentinel://u:SENTINEL@h:1/0?password=SENTINEL;sentinel://:SENTINEL@h:2/0",
    "batches_backend_options": {
        "username": "SENTINEL",
        "socket_timeout": 3,
        "master_name": "SENTINEL",
        "sentinel_kwargs": {"password": "SENTINEL"},
    },
    "batches_notifications": NOTIFICATIONS,
    "batches_linger": timedelta(hours=1),
}


@pytest.fixture
def make() -> Iterator[Callable[[], Celery]]:
    made: list[Celery] = []

    def make_app() -> Celery:
        made.append(Celery("reported", broker="memory://", set_as_current=False))
        return made[-1]

    yield make_app
    for app in made:
        app.close()


def by_update(app: Celery) -> None:
    app.conf.update(SETTINGS)
    Batches(app)


def by_update_afterwards(app: Celery) -> None:
    Batches(app)
    app.conf.update(SETTINGS)


def by_object(app: Celery) -> None:
    app.config_from_object(SimpleNamespace(**SETTINGS))
    Batches(app)


def by_object_afterwards(app: Celery) -> None:
    Batches(app)
    app.config_from_object(SimpleNamespace(**SETTINGS))


def by_namespace(app: Celery) -> None:
    names = {f"CELERY_{name.upper()}": value for name, value in SETTINGS.items()}
    app.config_from_object(SimpleNamespace(**names), namespace="CELERY")
    Batches(app)


def by_a_second_configuration(app: Celery) -> None:
    by_update(app)
    app.conf.humanize()
    app.config_from_object(SimpleNamespace(**SETTINGS), force=True)


@pytest.mark.parametrize(
    "configure",
    [
        *(by_update, by_update_afterwards, by_object, by_object_afterwards, by_namespace),
        by_a_second_configuration,
    ],
)
def test_no_report_shows_a_secret_however_the_app_is_configured(
    make: Callable[[], Celery], configure: Callable[[Celery], None]
) -> None:
    app = make()
    configure(app)
    assert "SENTINEL" in repr(app.conf.table(censored=False))
    for told in (app.bugreport(), app.conf.humanize(with_defaults=True), repr(app.conf.table())):
        assert "SENTINEL" not in told
        assert "webhook:a" in told


def test_names_numbers_and_references_are_shown(make: Callable[[], Celery]) -> None:
    app = make()
    by_update(app)
    table = app.conf.table()
    assert table["batches_notifications"] == {
        "slack": {"url": MASK, "timeout": 3},
        "webhook:a": {"url": "env:HOOK", "headers": {"Authorization": MASK}, "secret": MASK},
        "apprise": {"urls": [MASK, "env:NTFY"]},
        "email": {"via_options": {"address": MASK, "port": 25, "password": MASK}},
    }
    assert table["batches_linger"] == timedelta(hours=1)
    shown = table["batches_backend_url"]
    # Celery 5.5 cuts it.
    assert shown in ("sentinel://u:**@h:1/0;sentinel://:**@h:2/0", "sentinel://u:**@h:1/0")


def test_the_configuration_itself_is_as_it_was(make: Callable[[], Celery]) -> None:
    app = make()
    by_update(app)
    app.conf.table()
    assert app.conf.batches_notifications is NOTIFICATIONS
    assert app._batches_extension.engine.settings.notifications == NOTIFICATIONS
    assert not any("table" in mapping for mapping in app.conf.maps)
