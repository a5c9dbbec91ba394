"""Both Campfires, as their servers see it."""

from __future__ import annotations

from typing import Any

import pytest

from celery_batches_notify.errors import ConfigurationError, NotificationFailed
from celery_batches_notify.notifiers.base import build_notifier, merge_options
from celery_batches_notify.notifiers.chat.campfire import Campfire, render_html, render_text
from celery_batches_notify.notifiers.summary import summarise
from tests.support import samples
from tests.support.http_server import answer, serving


def test_the_classic_api_is_spoken_as_documented() -> None:
    with serving(answer(201, b"{}", "application/json")) as server:
        said = Campfire(url=server.url, roomid=111111, token="417").send(samples.failing(5, tags=()))
    request = server.only
    assert said == "201 Created"
    assert request.path == "/room/111111/speak.json"
    assert request.headers["authorization"] == "Basic NDE3Olg="  # 417:X
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "message": {
            "type": "TextMessage",
            "body": (
                "✗ 1 of 10 failed for good, 4 will be retried: Import rows — Succeeded: 5 of 10 · Failed for "
                "good: 1 · Will be retried: 4 · Took: 3 min 12 s — 5 × ValueError in import_row: Something "
                f"failed 0 — https://ops.test/{samples.BID}#failures"
            ),
        }
    }


def test_the_classic_address_is_the_subdomains(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answer(201)) as proxy:
        for name in ("no_proxy", "NO_PROXY", "https_proxy", "HTTPS_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)  # sees where it would go
        proxied = Campfire(subdomain="acmecorp", roomid=111111, token="417", timeout=5)
        with pytest.raises(NotificationFailed, match=r"^https://acmecorp\.campfirenow\.com: "):
            proxied.send(samples.notification())


def test_todays_campfire_takes_html_as_the_whole_body() -> None:
    with serving(answer(201, Location="/rooms/42/@1")) as server:
        said = Campfire(url=server.url + "/", roomid=42, bot_key="7-kR3x9").send(
            samples.failing(1, tags=(), description="Größe <b>")
        )
    assert said == "201 Created"
    assert server.only.path == "/rooms/42/7-kR3x9/messages"
    assert server.only.headers["content-type"] == "text/html; charset=utf-8"
    assert "authorization" not in server.only.headers
    assert server.only.body.decode() == (
        "<strong>✗ 1 of 2 failed for good: Größe &lt;b&gt;</strong><br>"
        "Succeeded: 1 of 2 · Failed for good: 1 · Took: 3 min 12 s<br>"
        "<pre>ValueError in import_row: Something failed 0</pre><br>"
        f'<a href="https://ops.test/{samples.BID}#failures">Open the batch</a>'
    )


def test_a_redirect_to_the_login_page_means_a_wrong_bot_key() -> None:
    with serving(answer(302, Location="/session/new")) as server, pytest.raises(NotificationFailed) as caught:
        Campfire(url=server.url, roomid=42, bot_key="7-wrong").send(samples.notification())
    assert str(caught.value) == f"{server.url}: sent us to its login page: the bot_key is wrong"
    assert caught.value.permanent
    assert caught.value.status_code == 302


def test_other_failures_of_todays_campfire_stay_as_they_are() -> None:
    with serving(answer(422)) as server, pytest.raises(NotificationFailed, match="422"):
        Campfire(url=server.url, roomid=42, bot_key="7-kR3x9").send(samples.notification())


def test_an_address_with_an_at_sign_stays_whole() -> None:
    summary = summarise(samples.notification(url="https://ops.test/@me?a=1&b=2"))
    assert 'href="https://ops.test/@me?a=1&amp;b=2"' in render_html(summary)
    assert render_text(summary).endswith(" — https://ops.test/@me?a=1&b=2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"roomid": 1, "subdomain": "acmecorp"}, "give a token"),
        ({"roomid": 1, "token": "t", "bot_key": "7-x", "url": "https://x.test"}, "not both"),
        ({"roomid": 1, "token": "t"}, "subdomain is missing"),
        ({"roomid": 1, "token": "t", "subdomain": "acmecorp.campfirenow.com"}, "only the acmecorp"),
        ({"roomid": 1, "token": "t", "subdomain": "x/../y"}, "only the acmecorp"),
        ({"roomid": 1, "bot_key": "7-x"}, "url is missing"),
        ({"roomid": 1, "bot_key": "7/x", "url": "https://x.test"}, "last part but one"),
        ({"roomid": 1, "token": "t", "url": "x.test"}, "url is not"),
        ({"roomid": "../x", "token": "t", "subdomain": "acmecorp"}, "roomid"),
        ({"token": "t", "subdomain": "acmecorp"}, "roomid"),
    ],
)
def test_a_wrong_option_is_named_with_its_fix(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build_notifier(Campfire, options)


def test_the_specifications_options_are_taken() -> None:
    options = {"subdomain": "acmecorp", "roomid": 111111, "token": "417"}
    assert build_notifier(Campfire, options) == Campfire(subdomain="acmecorp", roomid=111111, token="417")


def test_another_server_does_not_get_the_token() -> None:
    configured = {"roomid": 1, "token": "417", "url": "https://chat.example.com"}
    with pytest.raises(ConfigurationError, match="the configured ones stay behind"):
        build_notifier(Campfire, merge_options(Campfire, configured, {"url": "https://evil.test"}))
