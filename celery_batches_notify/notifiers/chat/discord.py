"""Discord, over a webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from celery_batches_notify.notifiers.chat.base import ChatWebhook
from celery_batches_notify.notifiers.escaping import fence, soften
from celery_batches_notify.notifiers.options import check_text
from celery_batches_notify.notifiers.summary import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Discord(ChatWebhook):
    """Write into a Discord channel: `url` is `https://discord.com/api/webhooks/…/…`.

    Attributes:
        username: The name to write under, instead of the webhook's own.
    """

    name: ClassVar[str] = "discord"

    username: str | None = None

    def __post_init__(self) -> None:
        ChatWebhook.__post_init__(self)
        if self.username is not None:
            check_text("username", self.username)
            if len(self.username) > 80:
                raise ValueError("username: Discord takes at most 80 characters")

    def render(self, summary: Summary) -> dict[str, Any]:
        """Return one embed, without previews of addresses and without mentions."""
        embed: dict[str, Any] = {
            "title": soften(summary.headline),
            "color": int(summary.verdict.colour.removeprefix("#"), 16),
            "fields": [
                {"name": name, "value": soften(value), "inline": True} for name, value in summary.facts
            ],
            "url": summary.url,
            "description": fence(summary.error_lines),
            "footer": {"text": summary.next_step} if summary.next_step else None,
        }
        embed = {key: value for key, value in embed.items() if value}
        message: dict[str, Any] = {"allowed_mentions": {"parse": []}, "embeds": [embed]}
        return message | ({"username": self.username} if self.username else {})
