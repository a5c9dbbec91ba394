"""Messages to Mattermost and Rocket.Chat."""

from __future__ import annotations

from typing import Any

import pytest

from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.chat.slack_compatible import Mattermost, RocketChat
from celery_batches_notify.notifiers.summary import summarise
from tests.support import samples

URL = "https://chat.example.com/hooks/x"


def test_the_whole_message_reads_like_this() -> None:
    message = Mattermost(url=URL).render(summarise(samples.failing(4, dead=0, tags=())))
    assert message == {
        "attachments": [
            {
                "fallback": "⚠ 4 of 8 failed and will be retried: Import rows",
                "color": "#d9a400",
                "title": "⚠ 4 of 8 failed and will be retried: Import rows",
                "title_link": f"https://ops.test/{samples.BID}#why",
                "text": "```\n4 × ValueError in import_row: Something failed 0\n```",
                "fields": [
                    {"title": "Succeeded", "value": "4 of 8", "short": True},
                    {"title": "Will be retried", "value": "4", "short": True},
                    {"title": "Took", "value": "3 min 12 s", "short": True},
                ],
            }
        ]
    }


def test_rocket_chat_is_asked_for_no_previews() -> None:
    assert RocketChat(url=URL).render(summarise(samples.notification()))["parseUrls"] is False


@pytest.mark.parametrize("kind", [Mattermost, RocketChat])
def test_channel_and_name_can_be_chosen(kind: type[Mattermost | RocketChat]) -> None:
    message = kind(url=URL, channel="#ops", username="Celery").render(summarise(samples.notification()))
    assert message["channel"] == "#ops"
    assert message["username"] == "Celery"


@pytest.mark.parametrize("option", ["channel", "username"])
def test_neither_can_be_two_lines(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        build_notifier(Mattermost, {"url": URL, option: "a\nb"})


@pytest.mark.parametrize("text", samples.HOSTILE)
def test_no_text_makes_the_message_too_long(text: str) -> None:
    message: dict[str, Any] = Mattermost(url=URL).render(summarise(samples.hostile(text)))
    assert len(message["attachments"][0]["text"]) < 4_000
