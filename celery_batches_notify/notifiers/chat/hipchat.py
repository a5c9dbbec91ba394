"""HipChat. The service ended in 2019; self-hosted servers and look-alikes still speak its API."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlencode

from celery_batches_notify.headline import Verdict
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.chat.base import LINK_TEXT
from celery_batches_notify.notifiers.escaping import escape_html, fit
from celery_batches_notify.notifiers.http import HttpNotifier
from celery_batches_notify.notifiers.options import check_flag, check_room, check_text, check_url
from celery_batches_notify.notifiers.summary import Summary, summarise

LINE_CHARACTERS = 1_000  # HipChat takes 10,000 in all

_COLOURS = {
    Verdict.SUCCEEDED: "green",
    Verdict.RUNNING: "gray",
    Verdict.FAILING: "yellow",
    Verdict.DEAD: "red",
}
_SENDER = re.compile(r"[A-Za-z0-9_ -]{1,14}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HipChat(HttpNotifier):
    """Write into a HipChat room.

    Attributes:
        roomid: The room's number or name.
        token: A token that may notify this room (v2), or a notification token (v1).
        api: `v2`, or `v1` for older servers.
        url: The server's address, such as `https://hipchat.example.com`.
        sender: The name to write under, up to 14 characters.
        notify: Whether the message rings.
    """

    name: ClassVar[str] = "hipchat"
    secrets: ClassVar[frozenset[str]] = frozenset({"token"})
    credentials: ClassVar[frozenset[str]] = frozenset({"token"})

    roomid: int | str
    token: str = field(repr=False)
    api: Literal["v1", "v2"] = "v2"
    url: str = field(default="https://api.hipchat.com", repr=False)
    sender: str = "Celery"
    notify: bool = False

    def __post_init__(self) -> None:
        HttpNotifier.__post_init__(self)
        check_room("roomid", self.roomid)
        check_text("token", self.token)
        check_url("url", self.url)
        check_flag("notify", self.notify)
        if self.api not in ("v1", "v2"):
            raise ValueError("api must be v1 or v2")
        check_text("sender", self.sender)
        if not _SENDER.fullmatch(self.sender):
            raise ValueError("sender: HipChat takes up to 14 letters, digits, blanks, - and _")

    @property
    def receiver(self) -> str:
        """The server and the room."""
        return f"{self.url}#{self.roomid}"

    def send(self, notification: Notification) -> str:
        """POST one message; see `HttpNotifier.post`."""
        summary = summarise(notification, self.failures)
        message = {
            "from": self.sender,
            "message": render_html(summary),
            "message_format": "html",  # HipChat leaves @mentions and addresses alone in this format
            "color": _COLOURS[summary.verdict],
        }
        return self._send_v2(message) if self.api == "v2" else self._send_v1(message)

    def _send_v2(self, message: dict[str, Any]) -> str:
        room = quote(str(self.roomid), safe="")
        url = f"{self.url.rstrip('/')}/v2/room/{room}/notification"
        message["notify"] = self.notify
        return self.post_json(url, message, authorization=f"Bearer {self.token}").words

    def _send_v1(self, message: dict[str, Any]) -> str:
        url = f"{self.url.rstrip('/')}/v1/rooms/message"
        form = message | {
            "auth_token": self.token,  # in the form, because access logs hold queries
            "room_id": self.roomid,
            "notify": int(self.notify),
            "format": "json",
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.post(url, urlencode(form, errors="replace").encode(), headers).words


def render_html(summary: Summary) -> str:
    """Return the message in HipChat's HTML."""
    parts = [f"<b>{escape_html(summary.headline)}</b>", escape_html(summary.sentence)]
    lines = filter(None, (*summary.error_lines, summary.next_step))
    parts += [f"<code>{fit(line, LINE_CHARACTERS, escape_html)}</code>" for line in lines]
    if summary.url:
        parts.append(f'<a href="{escape_html(summary.url)}">{LINK_TEXT}</a>')
    return "<br>".join(parts)
