"""Mattermost and Rocket.Chat, which take Slack's older kind of message with attachments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from celery_batches_notify.notifiers.chat.base import ChatWebhook
from celery_batches_notify.notifiers.escaping import fence, soften
from celery_batches_notify.notifiers.options import check_text
from celery_batches_notify.notifiers.summary import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackCompatible(ChatWebhook):
    """A service that takes Slack's attachments.

    Attributes:
        channel: Another channel than the webhook's own, if the service allows it.
        username: The name to write under, if the service allows it.
    """

    channel: str | None = None
    username: str | None = None

    def __post_init__(self) -> None:
        ChatWebhook.__post_init__(self)
        for option in ("channel", "username"):
            if (value := getattr(self, option)) is not None:
                check_text(option, value)

    def render(self, summary: Summary) -> dict[str, Any]:
        """Return a coloured attachment. The message itself stays empty, because mentions in it would ring."""
        chosen = {"channel": self.channel, "username": self.username}
        attachment = {
            "fallback": soften(summary.headline),
            "color": summary.verdict.colour,
            "title": soften(summary.headline),
            "title_link": summary.url,
            "text": fence(summary.error_lines),
            "fields": [
                {"title": name, "value": soften(value), "short": True} for name, value in summary.facts
            ],
            "footer": summary.next_step,
        }
        kept = {key: value for key, value in attachment.items() if value}
        return {key: value for key, value in chosen.items() if value} | {"attachments": [kept]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mattermost(SlackCompatible):
    """Write into a Mattermost channel: `url` is `https://<server>/hooks/…`."""

    name: ClassVar[str] = "mattermost"


@dataclass(frozen=True, slots=True, kw_only=True)
class RocketChat(SlackCompatible):
    """Write into a Rocket.Chat room: `url` is `https://<server>/hooks/…/…`."""

    name: ClassVar[str] = "rocketchat"

    def render(self, summary: Summary) -> dict[str, Any]:
        """Return a coloured attachment without previews of addresses."""
        return SlackCompatible.render(self, summary) | {"parseUrls": False}
