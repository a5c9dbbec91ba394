"""Messages to Discord, within its limits."""

from __future__ import annotations

import pytest

from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.chat.discord import Discord
from celery_batches_notify.notifiers.summary import summarise
from tests.support import samples

URL = "https://discord.com/api/webhooks/1/x"


def test_the_whole_message_reads_like_this() -> None:
    assert Discord(url=URL, username="Celery").render(summarise(samples.failing(1, tags=()))) == {
        "username": "Celery",
        "allowed_mentions": {"parse": []},
        "embeds": [
            {
                "title": "✗ 1 of 2 failed for good: Import rows",
                "url": f"https://ops.test/{samples.BID}#failures",
                "color": 0xCF222E,
                "description": "```\nValueError in import_row: Something failed 0\n```",
                "fields": [
                    {"name": "Succeeded", "value": "1 of 2", "inline": True},
                    {"name": "Failed for good", "value": "1", "inline": True},
                    {"name": "Took", "value": "3 min 12 s", "inline": True},
                ],
            }
        ],
    }


@pytest.mark.parametrize("text", samples.HOSTILE)
def test_no_text_makes_discord_refuse_the_message(text: str) -> None:
    (embed,) = Discord(url=URL).render(summarise(samples.hostile(text)))["embeds"]
    assert 1 <= len(embed["title"]) <= 256
    assert 1 <= len(embed["description"]) <= 4_096
    assert len(embed["fields"]) <= 25
    assert all(1 <= len(field["value"]) <= 1_024 for field in embed["fields"])
    texts = [
        embed["title"],
        embed["description"],
        *(x for f in embed["fields"] for x in (f["name"], f["value"])),
    ]
    assert sum(map(len, texts)) <= 6_000


@pytest.mark.parametrize("username", ["", "a\nb", "x" * 81])
def test_a_name_discord_would_refuse_is_refused_here(username: str) -> None:
    with pytest.raises(ConfigurationError, match="username"):
        build_notifier(Discord, {"url": URL, "username": username})
