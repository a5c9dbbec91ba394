"""What Mattermost and Rocket.Chat are sent."""

from __future__ import annotations

from typing import Any

import pytest
import samples

from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.slack_compatible import Mattermost, RocketChat
from celery_batches_notify.notifiers.summary import summarise

URL = "https://chat.example.com/hooks/x"


def test_the_whole_message_reads_like_this() -> None:
    message = Mattermost(url=URL).render(summarise(samples.failing(4, dead=0, tags=())))
    assert message == {
        "attachments": [
            {
                "fallback": "Import rows is complete",
                "color": "#d9a400",
                "title": "Import rows is complete",
                "title_link": f"https://ops.test/{samples.BID}",
                "text": (
                    "```\n"
                    "ValueError: Something failed 0 (proj.tasks.import_row)\n"
                    "ValueError: Something failed 1 (proj.tasks.import_row)\n"
                    "ValueError: Something failed 2 (proj.tasks.import_row)\n"
                    "… and 1 more\n"
                    "```"
                ),
                "fields": [
                    {"title": "Tasks", "value": "4 of 8 succeeded", "short": True},
                    {"title": "Failed", "value": "4 to be retried", "short": True},
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
