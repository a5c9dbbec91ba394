"""The outbox: notifications kept in memory instead of being sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from celery_batches_notify.model import BatchStatus, Notification
from celery_batches_notify.notifiers.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One notification that would have been sent.

    Attributes:
        channel: The notifier's name or profile (`email`, `webhook:billing`).
        notification: The notification.
        options: The notifier's options: those of `on()` over the configured ones, with `env:NAME` unread.
    """

    channel: str
    notification: Notification
    options: Mapping[str, Any] = field(repr=False)  # may hold secrets, and test reports show reprs

    @property
    def event(self) -> str:
        """The event that the notification is about."""
        return self.notification.event

    @property
    def status(self) -> BatchStatus:
        """The batch's status at that time."""
        return self.notification.status

    def __str__(self) -> str:
        return f"{self.event} through {self.channel}: {self.notification.subject}"


Outbox = list[Sent]


@contextmanager
def record_notifications() -> Iterator[Outbox]:
    """Keep the notifications of this process instead of sending them; yield the list, oldest first.

    This replaces every notifier of every app, even the project's own. `on()` still checks their options.
    """
    outbox: Outbox = []

    def build(registry: Registry, name: str, own: Mapping[str, Any]) -> Any:
        return _Recorder(outbox, name, registry.options_of(name, own))

    real = Registry.build
    Registry.build = build  # type: ignore[method-assign, assignment]
    try:
        yield outbox
    finally:
        Registry.build = real  # type: ignore[method-assign]


def assert_notified(
    outbox: Sequence[Sent], *, event: str | None = None, channel: str | None = None, bid: str | None = None
) -> Sent:
    """Return the one notification in the outbox that matches.

    Args:
        outbox: The outbox.
        event: Only notifications of this event.
        channel: Only those through this notifier or profile, as named in `on()`.
        bid: Only those of this batch.

    Raises:
        AssertionError: The number of matches is not 1; the text shows the whole outbox.
    """
    found = [
        sent
        for sent in outbox
        if event in (None, sent.event)
        and channel in (None, sent.channel)
        and bid in (None, sent.notification.status.bid)
    ]
    if len(found) == 1:
        return found[0]
    wanted = [
        f"{k}={v!r}" for k, v in (("event", event), ("channel", channel), ("bid", bid)) if v is not None
    ]
    held = "".join(f"\n  {sent}" for sent in outbox) or " nothing"
    raise AssertionError(
        f"{len(found) or 'no'} notifications fit {', '.join(wanted) or 'anything'}; the outbox holds{held}"
    )


class _Recorder:
    """Takes the place of a notifier."""

    secrets: ClassVar[frozenset[str]] = frozenset()
    credentials: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, outbox: Outbox, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self._outbox = outbox
        self._options = options

    def send(self, notification: Notification) -> str:
        self._outbox.append(Sent(channel=self.name, notification=notification, options=self._options))
        return "kept in the outbox"
