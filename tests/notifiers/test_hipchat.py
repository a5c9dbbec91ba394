"""Both versions of HipChat's API, as a server sees it."""

from __future__ import annotations

from typing import Any

import pytest

from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.chat.hipchat import HipChat, render_html
from celery_batches_notify.notifiers.summary import summarise
from tests.support import samples
from tests.support.http_server import answer, serving

MESSAGE = (
    "<b>✗ 1 of 2 failed for good: Import rows</b><br>"
    "Succeeded: 1 of 2 · Failed for good: 1 · Took: 3 min 12 s<br>"
    "<code>ValueError in import_row: Something failed 0</code><br>"
    f'<a href="https://ops.test/{samples.BID}#failures">Open the batch</a>'
)


def test_version_2_has_the_token_in_a_header() -> None:
    with serving(answer(204)) as server:
        said = HipChat(url=server.url, roomid="Ops room", token="0a01", notify=True).send(
            samples.failing(1, tags=())
        )
    assert said == "204 No Content"
    assert server.only.path == "/v2/room/Ops%20room/notification"
    assert server.only.headers["authorization"] == "Bearer 0a01"
    assert server.only.json == {
        "from": "Celery",
        "message": MESSAGE,
        "message_format": "html",
        "color": "red",
        "notify": True,
    }


def test_version_1_has_the_token_in_the_form_and_not_in_the_query() -> None:
    with serving(answer(200, b'{"status": "sent"}', "application/json")) as server:
        HipChat(url=server.url + "/", roomid=111111, token="0a01", api="v1", sender="Nightly").send(
            samples.failing(1, tags=())
        )
    assert server.only.path == "/v1/rooms/message"
    assert "authorization" not in server.only.headers
    assert server.only.headers["content-type"] == "application/x-www-form-urlencoded"
    assert server.only.form == {
        "from": "Nightly",
        "message": MESSAGE,
        "message_format": "html",
        "color": "red",
        "auth_token": "0a01",
        "room_id": "111111",
        "notify": "0",
        "format": "json",
    }


@pytest.mark.parametrize(
    ("notification", "color"),
    [
        (samples.notification(), "green"),
        (samples.failing(dead=0), "yellow"),
        (samples.failing(dead=1), "red"),
    ],
)
def test_the_colour_follows_the_outcome(notification: Notification, color: str) -> None:
    with serving(answer(204)) as server:
        HipChat(url=server.url, roomid=1, token="t").send(notification)
    assert server.only.json["color"] == color


@pytest.mark.parametrize("text", samples.HOSTILE)
def test_no_text_makes_the_message_too_long(text: str) -> None:
    url = "https://ops.test/?" + "&" * 480
    assert len(render_html(summarise(samples.hostile(text, url=url)))) <= 10_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api": "v3"}, "api must be v1 or v2"),
        ({"sender": "x" * 15}, "up to 14"),
        ({"sender": "Ops!"}, "up to 14"),
        ({"sender": ""}, "sender"),
        ({"notify": 1}, "notify must be True or False"),
        ({"token": ""}, "token"),
        ({"roomid": None}, "roomid"),
        ({"url": "hipchat.example.com"}, "url is not"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        build_notifier(HipChat, {"roomid": 111111, "token": "t"} | options)


def test_the_specifications_options_are_taken() -> None:
    built = build_notifier(HipChat, {"roomid": 111111, "token": "0a01238109238102380123"})
    assert built == HipChat(roomid=111111, token="0a01238109238102380123", url="https://api.hipchat.com")
