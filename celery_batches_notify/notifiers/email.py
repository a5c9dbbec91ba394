"""Email: a mail about a batch, by the mailer and with its options."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.base import Reply
from celery_batches_notify.notifiers.email_body import write_digest, write_subject, write_text
from celery_batches_notify.notifiers.email_html import write_html
from celery_batches_notify.notifiers.mailer import Receipt, mail
from celery_batches_notify.notifiers.mailer.address import Addresses, parse_addresses
from celery_batches_notify.notifiers.mailer.header import header_line
from celery_batches_notify.notifiers.mailer.letter import check_headers
from celery_batches_notify.notifiers.mailer.transport import choose_transport
from celery_batches_notify.notifiers.references import is_reference

logger = logging.getLogger(__name__)

_ADDRESSES = ("to", "cc", "bcc", "from_", "reply_to", "sender", "smtp_envelope_to")
_LOGIN = ("user_name", "password")


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """Mail people. The options are those of `mailer.mail`, which explains them, and Pony's.

    Attributes:
        to: Recipients: `user@host` or `Name <user@host>`; several in a list or with commas between.
        cc: More of them, seen by all.
        bcc: More of them, seen by nobody.
        from_: Who writes; write it `from` in the configuration.
        reply_to: Where answers go.
        sender: Who sends on behalf of `from_`; also where bounces go.
        smtp_envelope_to: The recipients in truth, in place of to, cc and bcc.
        subject: A subject of your own for every mail, in place of what happened.
        headers: More headers by name.
        via: `smtp`, `sendmail` or `test`.
        via_options: How to reach and enter the server. `on()` replaces it as a whole, so that a password
            stays with the server it belongs to.
    """

    name: ClassVar[str] = "email"
    secrets: ClassVar[frozenset[str]] = frozenset(
        # a program and its arguments are no secrets, but nothing that is stored may choose what runs here
        {f"via_options.{name}" for name in ("password", "oauth2_file", "location", "arguments")}
    )
    credentials: ClassVar[frozenset[str]] = frozenset({"via_options"})

    to: str | list[str]
    cc: str | list[str] | None = None
    bcc: str | list[str] | None = None
    from_: str | None = None
    reply_to: str | list[str] | None = None
    sender: str | None = None
    smtp_envelope_to: str | list[str] | None = None
    subject: str | None = None
    headers: Mapping[str, str] | None = None
    via: str | None = None
    via_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check what can be checked before there is a mail; `env:NAME` references are left to the sender."""
        if not self.to:
            raise ValueError("to is required: the address, or a list of addresses, the mail goes to")
        for option in _ADDRESSES:
            parse_addresses(option.rstrip("_"), _without_references(getattr(self, option)))
        check_headers(self.headers or {})
        header_line("Subject", self.subject or "")
        if not is_reference(self.via):
            choose_transport(self.via, _without_unread(self.via_options or {}))

    def send(self, notification: Notification) -> str:
        """Mail the notification; the recipients that get it count, those that are refused are logged.

        Raises:
            NotificationFailed: Nobody got it.
        """
        digest = write_digest(notification)
        headers = dict(self.headers or {})
        if "auto-submitted" not in map(str.lower, headers):
            headers["Auto-Submitted"] = "auto-generated"
        receipt = mail(
            self.to,
            cc=self.cc,
            bcc=self.bcc,
            from_=self.from_,
            reply_to=self.reply_to,
            sender=self.sender,
            smtp_envelope_to=self.smtp_envelope_to,
            subject=self.subject or write_subject(notification),
            body=write_text(digest),
            html_body=write_html(digest),
            message_id=self._message_id(notification),
            headers=headers,
            via=self.via,
            via_options=self.via_options,
        )
        return _tell(receipt, notification)

    def _message_id(self, notification: Notification) -> str:
        # the same from every worker: so no host name, which the default of from_ has in it
        host = parse_addresses("from", self.from_ or self.to)[0].host
        return f"<{notification.id}@{host}>"


def _tell(receipt: Receipt, notification: Notification) -> Reply:
    everybody = len(receipt.accepted) + len(receipt.refused)
    if not receipt.refused:
        return Reply(f"accepted for {everybody} of {everybody} recipients", receipt.status_code)
    codes = sorted({refusal.code for refusal in receipt.refused})
    logger.warning(
        "mail refused for some of its recipients",
        extra={
            "bid": notification.status.bid,
            "event": notification.event,
            "refused": len(receipt.refused),
            "codes": codes,
        },
    )
    return Reply(
        f"accepted for {len(receipt.accepted)} of {everybody} recipients; "
        f"{len(receipt.refused)} refused ({', '.join(map(str, codes))})",
        receipt.status_code,
    )


def _without_references(written: Addresses | None) -> Addresses | None:
    if isinstance(written, str) or not isinstance(written, Iterable):
        return None if is_reference(written) else written
    return [text for text in written if not is_reference(text)]


def _without_unread(via_options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options to check: a reference stands for the login, and for nothing that has a form."""
    if not isinstance(via_options, Mapping):
        return via_options  # which the check complains about
    return {k: None if is_reference(v) and k not in _LOGIN else v for k, v in via_options.items()}
