"""Notifiers such as users write, with the carelessness that users have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from celery_batches_notify.model import Notification

ESCAPES = "\x1b]0;owned\x07\x1b[2Jok\r\n[CRITICAL] fake\x9b31m \u202eeurt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Careless:
    """Lets out whatever its library raises, whose text has the address and the token in it."""

    name: ClassVar[str] = "careless"
    secrets: ClassVar[frozenset[str]] = frozenset({"url", "token"})
    credentials: ClassVar[frozenset[str]] = frozenset()
    url: str = field(repr=False)
    token: str = field(repr=False)

    def send(self, notification: Notification) -> str:
        raise RuntimeError(f"Max retries exceeded with url: {self.url} {self.url[20:]} (token={self.token})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """Answers, or fails, with the batch's own text and with what a terminal obeys."""

    name: ClassVar[str] = "hostile"
    secrets: ClassVar[frozenset[str]] = frozenset()
    credentials: ClassVar[frozenset[str]] = frozenset()
    fails: bool = False

    def send(self, notification: Notification) -> str:
        said = f"{notification.status.description} {ESCAPES}"
        if self.fails:
            raise ValueError(said)
        return said
