"""Every service that the Apprise library knows, more than a hundred (extra `apprise`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.headline import Verdict
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.deadline import DeadlinePassed, run_within
from celery_batches_notify.notifiers.escaping import break_mentions
from celery_batches_notify.notifiers.failures import FULL, check_failures
from celery_batches_notify.notifiers.http import TIMEOUT_SECONDS
from celery_batches_notify.notifiers.http.answer import is_permanent
from celery_batches_notify.notifiers.options import check_extra, check_seconds, to_seconds
from celery_batches_notify.notifiers.quiet_loggers import HTTP_LOGGERS, quiet_loggers
from celery_batches_notify.notifiers.redaction import Redactor, pieces_of
from celery_batches_notify.notifiers.references import is_reference
from celery_batches_notify.notifiers.summary import Summary, summarise
from celery_batches_notify.text import one_line

REASON_CHARACTERS = 200

_KINDS = {
    Verdict.SUCCEEDED: "success",
    Verdict.RUNNING: "info",
    Verdict.FAILING: "warning",
    Verdict.DEAD: "failure",
}
_STATUS = re.compile(r"\berror=(\d{3})\b")
_ASSET: dict[str, Any] = {
    "app_id": "celery-batches-notify",
    "app_desc": "Batches for Celery",
    "app_url": "https://pypi.org/project/celery-batches-notify/",
    "async_mode": False,
    "http_redirects": False,
    "image_url_mask": "",
    "image_url_logo": "",
    "interpret_emojis": False,
    "interpret_escapes": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Apprise:
    """Write to any service that Apprise knows.

    Attributes:
        urls: One or several of Apprise's addresses, such as `tgram://…` or `ntfy://…`. If one of several
            fails, the next attempt writes to all of them again.
        timeout: The total time of one attempt: seconds or a `timedelta`.
        failures: How much receivers may see of the failures: `none`, `counts`, `messages` or `full`.
    """

    name: ClassVar[str] = "apprise"
    secrets: ClassVar[frozenset[str]] = frozenset({"urls"})
    credentials: ClassVar[frozenset[str]] = frozenset()

    urls: str | Sequence[str] = field(repr=False)
    timeout: float | timedelta = TIMEOUT_SECONDS
    failures: str = FULL

    def __post_init__(self) -> None:
        check_seconds("timeout", self.timeout)
        check_failures(self.failures)
        urls = self._list()
        if not isinstance(urls, (list, tuple)) or not urls or not all(map(_is_address, urls)):
            raise ValueError(
                "urls must be one of Apprise's addresses, such as ntfy://topic, or a list of them"
            )
        check_extra("this notifier", "apprise", "apprise")

    def send(self, notification: Notification) -> str:
        """Send once to every address.

        Raises:
            NotificationFailed: One of them failed. If Apprise logs the HTTP status, that decides whether
                trying again is pointless.
        """
        urls = self._list()
        summary = summarise(notification, self.failures)
        try:
            heard = run_within(to_seconds(self.timeout), lambda: _notify(urls, summary), _leave_behind)
        except DeadlinePassed:
            raise NotificationFailed(f"apprise: no answer within {to_seconds(self.timeout):g} s") from None
        if heard is not None:
            raise _to_failure(heard, urls)
        return f"sent to {len(urls)} address{'es' if len(urls) > 1 else ''}"

    @property
    def receiver(self) -> str:
        """All addresses, because they fail together."""
        return "\n".join(self._list())

    def _list(self) -> Sequence[str]:
        return [self.urls] if isinstance(self.urls, str) else self.urls


def _is_address(url: object) -> bool:
    return isinstance(url, str) and ("://" in url or is_reference(url))


def _notify(urls: Sequence[str], summary: Summary) -> list[str] | None:
    """Return None on success, else the warnings that Apprise logged."""
    import apprise  # noqa: PLC0415 -- an extra, and slow to load

    with quiet_loggers("apprise", *HTTP_LOGGERS) as heard:
        known = {key: value for key, value in _ASSET.items() if hasattr(apprise.AppriseAsset, key)}
        sender = apprise.Apprise(asset=apprise.AppriseAsset(**known))
        for number, url in enumerate(urls, start=1):
            if not sender.add(url):
                raise NotificationFailed(
                    f"apprise: address {number} of urls is unknown to Apprise, or lacks a part",
                    permanent=True,
                )
        arguments: dict[str, Any] = {"notify_type": _KINDS[summary.verdict], "body_format": "text"}
        link = [summary.url] if summary.url else []
        body = "\n".join([*map(break_mentions, summary.lines[1:]), *link])
        result = sender.notify(body=body, title=break_mentions(summary.lines[0]), **arguments)
        return None if result else heard  # in 2.x not a bool, but still true or false


def _to_failure(heard: Sequence[str], urls: Sequence[str]) -> NotificationFailed:
    statuses = [int(found[1]) for found in map(_STATUS.search, heard) if found]
    # any piece may be a token, even one that looks like a host
    secrets = {piece for url in urls for piece in pieces_of(url, with_host=True)}
    said = Redactor(secrets, at_least=3).hide(one_line("; ".join(heard), 10 * REASON_CHARACTERS))
    return NotificationFailed(
        f"apprise: {one_line(said, REASON_CHARACTERS) or 'it did not say why'}",
        permanent=bool(statuses) and len(statuses) == len(heard) and all(map(is_permanent, statuses)),
        status_code=statuses[0] if statuses else None,
    )


def _leave_behind() -> None:
    """Do nothing: Apprise has timeouts of its own, of a few seconds for each read."""
