"""The base of chat services with incoming webhooks: a secret address that takes one JSON message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.http import HttpNotifier
from celery_batches_notify.notifiers.options import check_url
from celery_batches_notify.notifiers.summary import Summary, summarise

LINK_TEXT = "Open the batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWebhook(HttpNotifier, ABC):
    """A chat service with incoming webhooks: a subclass has its `name`, and `render` makes its message.

    Attributes:
        url: The address the service gave you. Who knows it can write there, so it is a secret.
    """

    secrets: ClassVar[frozenset[str]] = frozenset({"url"})

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        HttpNotifier.__post_init__(self)
        check_url("url", self.url)

    def send(self, notification: Notification) -> str:
        """POST one message; see `HttpNotifier.post`."""
        return self.post_json(self.url, self.render(summarise(notification, self.failures))).words

    @abstractmethod
    def render(self, summary: Summary) -> dict[str, Any]:
        """Return the service's own message."""
