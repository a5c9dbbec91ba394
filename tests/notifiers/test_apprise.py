"""Apprise: answers that look like success, logs that hold secrets, and a single attempt."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from celery_batches_notify.errors import ConfigurationError, NotificationFailed
from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.chat.apprise import Apprise
from tests.support import samples
from tests.support.channels import CANARY  # and with it Apprise's plugins, which warn when they are loaded
from tests.support.http_server import Server, answer, serving


def address(server: Server, path: str = "") -> str:
    return server.url.replace("http:", "json:") + path


def test_it_sends_the_words_and_their_kind() -> None:
    with serving() as server:
        assert Apprise(urls=address(server)).send(samples.failing(1, tags=())) == "sent to 1 address"
    message = server.only.json
    assert message["title"] == "✗ 1 of 2 failed for good: Import rows"
    assert message["message"] == (
        "Succeeded: 1 of 2 · Failed for good: 1 · Took: 3 min 12 s\n"
        "ValueError in import_row: Something failed 0\n"
        f"https://ops.test/{samples.BID}#failures"
    )
    assert message["type"] == "failure"


def test_it_writes_to_all_addresses() -> None:
    with serving() as one, serving() as other:
        assert (
            Apprise(urls=[address(one), address(other)]).send(samples.notification()) == "sent to 2 addresses"
        )
    assert one.only.json["type"] == other.only.json["type"] == "success"


def test_one_failure_among_several_is_a_failure_and_not_permanent_unless_all_are() -> None:
    with serving() as good, serving(answer(500)) as bad, serving(answer(404)) as gone:
        for second in (bad, gone):
            with pytest.raises(NotificationFailed) as caught:
                Apprise(urls=[address(good), address(second)]).send(samples.notification())
            assert caught.value.status_code == (500 if second is bad else 404)
            assert caught.value.permanent == (second is gone)
        for second in (address(bad), "json://127.0.0.1:1/"):
            with pytest.raises(NotificationFailed) as caught:
                Apprise(urls=[address(gone), second]).send(samples.notification())
            assert not caught.value.permanent


def test_the_reason_is_given_without_the_address() -> None:
    with serving(answer(500)) as server, pytest.raises(NotificationFailed) as caught:
        Apprise(urls=address(server, f"/{CANARY}")).send(samples.notification())
    assert (
        str(caught.value)
        == "apprise: Failed to send JSON POST notification: Internal server error., error=500."
    )


def test_the_reason_of_a_connection_that_failed_hides_even_the_host() -> None:
    with pytest.raises(NotificationFailed) as caught:
        Apprise(urls=f"json://{CANARY}.invalid/").send(samples.notification())
    assert CANARY.lower() not in str(caught.value).lower()
    assert "Connection error" in str(caught.value)
    assert not caught.value.permanent


@pytest.mark.parametrize("url", [f"nope://{CANARY}/x", f"slack://{CANARY}", "slack://"])
def test_an_address_that_apprise_does_not_take_is_permanent_and_not_shown(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(NotificationFailed, match="address 2 of urls") as caught:
        Apprise(urls=["json://127.0.0.1:1/", url]).send(samples.notification())
    assert caught.value.permanent
    assert CANARY not in str(caught.value) + caplog.text


def test_it_follows_no_redirect() -> None:
    with serving() as elsewhere, serving(answer(307, Location=f"{elsewhere.url}/")) as server:
        with pytest.raises(NotificationFailed):
            Apprise(urls=address(server)).send(samples.notification())
        assert elsewhere.connections == 0


@pytest.mark.parametrize("urls", ["", [], ["ntfy"], 42, [42], None])
def test_other_texts_than_addresses_are_refused(urls: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"urls"):
        build_notifier(Apprise, {"urls": urls})


def test_without_the_extra_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=r"pip install 'celery-batches-notify\[apprise\]'"):
        build_notifier(Apprise, {"urls": "ntfy://x"})
