"""`post`: its request, the meaning of answers, and the secrets that it never shows."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.notifiers.http import basic_auth, post, show_origin, user_agent
from tests.support import http_server as receivers
from tests.support.http_server import Behaviour, answer, serving

CANARY = "SENTINEL9f3"
HEADERS = {"Content-Type": "text/plain"}

pytestmark = pytest.mark.usefixtures("no_proxy")


def fail(behaviour: Behaviour, *, timeout: float = 10, path: str = "/", **options: Any) -> NotificationFailed:
    with serving(behaviour) as server, pytest.raises(NotificationFailed) as caught:
        post(server.url + path, b"hello", HEADERS, timeout=timeout, **options)
    return caught.value


# What is sent


def test_it_sends_the_body_once_with_our_user_agent() -> None:
    with serving() as server:
        said = post(server.url + "/hook?x=1", "grüße".encode(), HEADERS)
    assert said.words == "200 OK"
    assert server.only.method == "POST"
    assert server.only.path == "/hook?x=1"
    assert server.only.body.decode() == "grüße"
    assert server.only.headers["user-agent"] == user_agent()
    assert user_agent().startswith("celery-batches-notify/")
    assert "authorization" not in server.only.headers


def test_basic_auth_is_in_utf_8() -> None:
    assert basic_auth("jürgen", "pässwörd") == "Basic asO8cmdlbjpww6Rzc3fDtnJk"


@pytest.mark.parametrize("authorization", [None, "Bearer ours"])
def test_a_netrc_file_changes_nothing(
    authorization: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving() as server:
        post(server.url, b"", HEADERS, authorization=authorization)
    assert server.only.headers.get("authorization") == authorization


def test_it_asks_for_no_compression_and_no_second_request() -> None:
    with serving() as server:
        post(server.url, b"", HEADERS)
    assert server.only.headers["accept-encoding"] == "identity"
    assert server.only.headers["connection"] == "close"


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answer(204)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert post("http://somewhere.test/hook", b"hello", HEADERS).status_code == 204
    assert proxy.only.path == "http://somewhere.test/hook"


def test_a_proxy_that_refuses_its_login_does_not_end_the_notification(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(answer(407)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with pytest.raises(NotificationFailed, match="answered 407 Proxy Auth") as caught:
            post("http://somewhere.test/hook", b"hello", HEADERS)
    assert not caught.value.permanent


def test_a_proxy_that_is_away_is_named_as_the_trouble_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{CANARY}@127.0.0.1:1")
    with pytest.raises(
        NotificationFailed, match=r"^http://somewhere\.test: the proxy on the way to it failed$"
    ):
        post("http://somewhere.test/hook", b"hello", HEADERS)


# What the status means


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_2xx_is_success(status: int) -> None:
    with serving(answer(status)) as server:
        assert post(server.url, b"", HEADERS).status_code == status


@pytest.mark.parametrize("status", [400, 404, 405, 410, 413, 422, 451])
def test_other_4xx_are_permanent(status: int) -> None:
    failure = fail(answer(status))
    assert failure.permanent
    assert failure.status_code == status


@pytest.mark.parametrize("status", [401, 403, 408, 409, 425, 429, 500, 502, 503, 504, 599])
def test_these_can_be_tried_again(status: int) -> None:
    failure = fail(answer(status))
    assert not failure.permanent
    assert failure.status_code == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    with serving() as canary:
        failure = fail(answer(status, Location=f"{canary.url}/{CANARY}"))
        assert canary.connections == 0
    assert failure.status_code == status
    assert failure.permanent == (status in (301, 308))
    assert "final address" in str(failure)
    assert CANARY not in str(failure)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("1.5", 1.5),
        ("3600", 3600),
        ("86400", 3600),
        ("9" * 12, 3600),
        ("-5", None),
        ("soon", None),
    ],
)
def test_retry_after_is_honoured_up_to_an_hour(header: str, seconds: float | None) -> None:
    assert fail(answer(429, Retry_After=header)).retry_after == seconds


def test_retry_after_as_a_date_counts_from_the_receivers_clock() -> None:
    then = datetime(2001, 1, 1, tzinfo=UTC)
    date, later = (format_datetime(at, usegmt=True) for at in (then, then + timedelta(seconds=90)))
    assert fail(answer(503, Date=date, Retry_After=later)).retry_after == 90


def test_retry_after_is_pointless_where_the_failure_is_permanent() -> None:
    assert fail(answer(410, Retry_After="5")).retry_after is None


# What cannot be sent


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.test/",
        "file:///etc/passwd",
        "example.test/hook",
        "http:///hook",
        "http://mike:xyzzy@example.test/",
        "http://example.test:99999/",
        "http://[::1/",
        "http://exa mple.test/",
        "http://example.test\\@evil.test/",
        f"http://{'x' * 64}.test/",
        "http://*.test/",
    ],
)
def test_an_address_that_cannot_be_used_is_permanent(url: str) -> None:
    with pytest.raises(NotificationFailed) as caught:
        post(url, b"", HEADERS, timeout=5)
    assert caught.value.permanent
    assert "xyzzy" not in str(caught.value)


# Secrets


BEHAVIOURS: list[Behaviour] = [
    answer(404),
    answer(500, b"oops"),
    answer(302, Location=f"/{CANARY}"),
    receivers.echo(400),
    receivers.echo(400, "application/json"),
    receivers.echo(500, "text/html"),
    receivers.reset,
    receivers.hang,
    receivers.garbage,
    lambda handler: handler.send(b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"),
]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("which", ["path", "auth", "body"])
def test_neither_errors_nor_debug_logs_show_the_address_or_the_password(
    behaviour: Behaviour, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = f"/hooks/{CANARY}/%20{CANARY}?token={CANARY}"
    headers = {"X-Token": CANARY, "X-Echo": which}
    login = basic_auth("me", CANARY)
    failures: list[NotificationFailed] = []
    with serving(behaviour) as server:
        try:
            url = server.url + path
            seconds = 3 if behaviour is receivers.hang else 30
            post(url, CANARY.encode(), headers, authorization=login, timeout=seconds, hidden=[CANARY])
        except NotificationFailed as exc:
            failures.append(exc)
    assert all(failure.__context__ is None and failure.__cause__ is None for failure in failures)
    shown = " ".join(f"{failure} {failure!r} {vars(failure)}" for failure in failures)
    assert CANARY not in shown + caplog.text
    assert login[6:] not in shown + caplog.text
    assert server.received, "the request must have arrived, or this proves nothing"


def test_the_debug_logs_of_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving() as server:
        post(server.url + "/ours", b"", HEADERS)
        requests.get(server.url + "/theirs", timeout=5)
    assert "/theirs" in caplog.text
    assert "/ours" not in caplog.text


def test_a_short_and_plain_answer_is_quoted() -> None:
    assert str(fail(answer(404, b"channel_is_archived\n"))).endswith(
        "answered 404 Not Found: channel_is_archived"
    )
    json = b'{"message": "Unknown Webhook",\n "code": 10015}'
    assert str(fail(answer(404, json, "application/json; charset=utf-8"))).endswith('"code": 10015}')


@pytest.mark.parametrize("body", [b"x" * 300, b"\x1b[31mred", "\u202eabc".encode(), b"", b"\xff\x00"])
def test_a_long_or_strange_answer_is_not_quoted(body: bytes) -> None:
    assert str(fail(answer(404, body))).endswith("answered 404 Not Found")


def test_only_the_origin_of_an_address_is_shown() -> None:
    assert show_origin("https://me:pw@example.test:8443/hooks/x?y=z#w") == "https://example.test:8443"
    assert show_origin("http://[::1/") == "the receiver"
