"""Campfire: the classic service's API, and today's open-source server with its bots."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import quote

from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.chat.base import LINK_TEXT
from celery_batches_notify.notifiers.escaping import break_mentions, escape_html
from celery_batches_notify.notifiers.http import HttpNotifier, basic_auth, show_origin
from celery_batches_notify.notifiers.options import check_room, check_text, check_url
from celery_batches_notify.notifiers.references import is_reference
from celery_batches_notify.notifiers.summary import Summary, summarise

_SUBDOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_BOT_KEY = re.compile(r"[0-9]+-[A-Za-z0-9_-]+")
_NO_PASSWORD = "X"  # noqa: S105 -- what the classic API documents for “the token is the user name”


@dataclass(frozen=True, slots=True, kw_only=True)
class Campfire(HttpNotifier):
    """Write into a Campfire room.

    Attributes:
        roomid: The room's number.
        subdomain: The classic service's account: `acmecorp` of `acmecorp.campfirenow.com`.
        token: The classic API's token.
        bot_key: Today's key of a bot, such as `7-kR3x9mP8qL2n`; with it, `url` is needed.
        url: The server's address, such as `https://chat.example.com`.
    """

    name: ClassVar[str] = "campfire"
    secrets: ClassVar[frozenset[str]] = frozenset({"token", "bot_key"})
    credentials: ClassVar[frozenset[str]] = frozenset({"token", "bot_key"})

    roomid: int | str
    subdomain: str | None = None
    token: str | None = field(default=None, repr=False)
    bot_key: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        HttpNotifier.__post_init__(self)
        check_room("roomid", self.roomid)
        if (self.token is None) == (self.bot_key is None):
            raise ValueError(
                "give a token (classic API) or a bot_key (today's Campfire), and not both; with another url, "
                "the configured ones stay behind"
            )
        if self.url is not None:
            check_url("url", self.url)
        if self.token is not None:
            check_text("token", self.token)
            self._check_subdomain()
        if self.bot_key is not None:
            self._check_bot()

    @property
    def receiver(self) -> str:
        """The server and the room."""
        return f"{self.url or f'https://{self.subdomain}.campfirenow.com'}#{self.roomid}"

    def send(self, notification: Notification) -> str:
        """POST one message; see `HttpNotifier.post`."""
        summary = summarise(notification, self.failures)
        if self.bot_key is not None:
            return self._send_as_bot(summary, self.bot_key)
        base = self.url or f"https://{self.subdomain}.campfirenow.com"
        payload = {"message": {"type": "TextMessage", "body": render_text(summary)}}
        authorization = basic_auth(self.token or "", _NO_PASSWORD)
        return self.post_json(
            f"{base.rstrip('/')}/room/{self._room}/speak.json", payload, authorization=authorization
        ).words

    def _send_as_bot(self, summary: Summary, bot_key: str) -> str:
        base = (self.url or "").rstrip("/")
        headers = {"Content-Type": "text/html; charset=utf-8"}
        try:
            return self.post(
                f"{base}/rooms/{self._room}/{bot_key}/messages",
                render_html(summary).encode("utf-8", "replace"),
                headers,
            ).words
        except NotificationFailed as exc:
            if exc.status_code is None or not 300 <= exc.status_code < 400:
                raise
            raise NotificationFailed(
                f"{show_origin(base)}: sent us to its login page: the bot_key is wrong",
                permanent=True,
                status_code=exc.status_code,
            ) from exc

    @property
    def _room(self) -> str:
        return quote(str(self.roomid), safe="")

    def _check_subdomain(self) -> None:
        if self.subdomain is None and self.url is None:
            raise ValueError("subdomain is missing: the acmecorp of https://acmecorp.campfirenow.com")
        if self.subdomain is not None and not is_reference(self.subdomain):
            check_text("subdomain", self.subdomain)
            if not _SUBDOMAIN.fullmatch(self.subdomain):
                raise ValueError("subdomain is only the acmecorp of https://acmecorp.campfirenow.com")

    def _check_bot(self) -> None:
        if self.url is None:
            raise ValueError("url is missing: where your Campfire is, such as https://chat.example.com")
        check_text("bot_key", self.bot_key)
        if not is_reference(self.bot_key) and not _BOT_KEY.fullmatch(self.bot_key or ""):
            raise ValueError("bot_key is the last part but one of the bot's address, such as 7-kR3x9mP8qL2n")


def render_text(summary: Summary) -> str:
    """Return the message for the classic API, whose text messages are one line."""
    link = [summary.url] if summary.url else []
    return " — ".join([*map(break_mentions, summary.lines), *link])


def render_html(summary: Summary) -> str:
    """Return the message for today's Campfire, which takes HTML."""
    parts = [
        f"<strong>{escape_html(summary.headline)}</strong>",
        escape_html(summary.sentence),
    ]
    if lines := [*summary.error_lines, *filter(None, [summary.next_step])]:
        parts.append("<pre>" + "\n".join(map(escape_html, lines)) + "</pre>")
    if summary.url:
        parts.append(f'<a href="{escape_html(summary.url)}">{LINK_TEXT}</a>')
    return "<br>".join(parts)
