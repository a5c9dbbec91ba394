"""Email: a mail about a batch, by the mailer and with its options."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, ClassVar

from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.base import Reply
from celery_batches_notify.notifiers.email_body import write_digest, write_subject, write_text
from celery_batches_notify.notifiers.email_html import write_html
from celery_batches_notify.notifiers.mailer import MailFailed, Receipt, Refusal, mail
from celery_batches_notify.notifiers.mailer.address import Addresses, parse_addresses
from celery_batches_notify.notifiers.mailer.header import header_line
from celery_batches_notify.notifiers.mailer.letter import check_headers
from celery_batches_notify.notifiers.mailer.transport import choose_transport
from celery_batches_notify.notifiers.references import is_reference
from celery_batches_notify.text import one_line

logger = logging.getLogger(__name__)

_ADDRESSES = ("to", "cc", "bcc", "from_", "reply_to", "sender", "smtp_envelope_to")
_LOGIN = ("user_name", "password")
_REFUSAL_CHARACTERS = 100


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

    def send(self, notification: Notification) -> Reply:
        """Mail the notification; recipients that were refused for now get the next attempt, alone.

        Raises:
            NotificationFailed: Somebody is still owed it, or everybody was refused.
        """
        everybody = self._recipients()
        left = [spec for spec in everybody if not notification.owed or _token(spec) in notification.owed]
        if not left:
            return Reply("nobody who is still owed it is among the recipients any more")
        try:
            receipt = self._mail(notification, left)
        except MailFailed as exc:
            if final := {refusal.address for refusal in exc.refused if refusal.is_final}:
                exc.owed = tuple(_token(spec) for spec in left if spec not in final)
            if len(exc.refused) > 1:
                exc.args = (_tell((), exc.refused, len(left)),)
            raise
        words = _tell(receipt.accepted, receipt.refused, len(left))
        if owed := [refusal for refusal in receipt.refused if not refusal.is_final]:
            tokens = [_token(refusal.address) for refusal in owed]
            raise NotificationFailed(words, status_code=owed[0].code, owed=tokens)
        if receipt.refused:
            _log_refused(receipt.refused, notification)
        return Reply(words, receipt.status_code)

    def _recipients(self) -> tuple[str, ...]:
        """Return the addresses that get the mail, each once."""
        written = (self.smtp_envelope_to,) if self.smtp_envelope_to else (self.to, self.cc, self.bcc)
        found = [address.spec for one in written for address in parse_addresses("to", one)]
        return tuple(dict.fromkeys(found))

    def _mail(self, notification: Notification, recipients: list[str]) -> Receipt:
        digest = write_digest(notification)
        headers = dict(self.headers or {})
        if "auto-submitted" not in map(str.lower, headers):
            headers["Auto-Submitted"] = "auto-generated"
        return mail(
            self.to,
            cc=self.cc,
            bcc=self.bcc,
            from_=self.from_,
            reply_to=self.reply_to,
            sender=self.sender,
            smtp_envelope_to=recipients,
            subject=self.subject or write_subject(notification),
            body=write_text(digest),
            html_body=write_html(digest),
            message_id=self._message_id(notification),
            headers=headers,
            via=self.via,
            via_options=self.via_options,
        )

    def _message_id(self, notification: Notification) -> str:
        # the same from every worker: so no host name, which the default of from_ has in it
        host = parse_addresses("from", self.from_ or self.to)[0].host
        return f"<{notification.id}@{host}>"


def _token(spec: str) -> str:
    """Return what stands for a recipient in the store: its address may come from the environment."""
    return blake2b(spec.encode(), digest_size=8).hexdigest()


def _tell(accepted: Sequence[str], refused: Sequence[Refusal], total: int) -> str:
    """Say who got the mail and who did not, those first, because a long list is cut short."""
    parts = [f"accepted for {len(accepted)} of {total} recipients"]
    for words, is_final in (("refused for now", False), ("refused for good", True)):
        if those := [refusal for refusal in refused if refusal.is_final is is_final]:
            shown = (one_line(f"{refusal.address} ({refusal})", _REFUSAL_CHARACTERS) for refusal in those)
            parts.append(f"{words}: {', '.join(shown)}")
    if refused and accepted:
        parts.append(f"accepted: {', '.join(accepted)}")
    return "; ".join(parts)


def _log_refused(refused: Sequence[Refusal], notification: Notification) -> None:
    bid, event, number = notification.status.bid, notification.event, len(refused)
    codes = sorted({refusal.code for refusal in refused})
    log = BatchLog(logger, bid=bid, event=event, channel="email", refused=number, codes=codes)
    log.warning("refused for %d of its recipients", number)


def _without_references(written: Addresses | None) -> Addresses | None:
    if isinstance(written, str) or not isinstance(written, Iterable):
        return None if is_reference(written) else written
    return [text for text in written if not is_reference(text)]


def _without_unread(via_options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options to check: a reference stands for the login, and for nothing that has a form."""
    if not isinstance(via_options, Mapping):
        return via_options  # which the check complains about
    return {k: None if is_reference(v) and k not in _LOGIN else v for k, v in via_options.items()}
