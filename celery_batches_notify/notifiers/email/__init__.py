"""The Email notifier: a mail about a batch, sent by the mailer with its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.base import Reply
from celery_batches_notify.notifiers.email.body import write_digest, write_text
from celery_batches_notify.notifiers.email.html import write_html
from celery_batches_notify.notifiers.email.recipients import add_owed, choose_owed, settle_receipt
from celery_batches_notify.notifiers.failures import FULL, check_failures, restrict
from celery_batches_notify.notifiers.mailer import MailFailed, Receipt, mail
from celery_batches_notify.notifiers.mailer.address import Addresses, parse_addresses
from celery_batches_notify.notifiers.mailer.dkim import check_dkim
from celery_batches_notify.notifiers.mailer.header import header_line
from celery_batches_notify.notifiers.mailer.letter import check_headers, write_parts
from celery_batches_notify.notifiers.mailer.transport import choose_transport
from celery_batches_notify.notifiers.references import is_reference
from celery_batches_notify.notifiers.templates import (
    check_template,
    fields_of,
    fill_header,
    fill_html,
    fill_text,
)
from celery_batches_notify.spelling import did_you_mean

_ADDRESSES = ("to", "cc", "bcc", "from_", "reply_to", "sender", "smtp_envelope_to")
_TEMPLATES = ("subject", "subject_prefix", "body", "html_body", "message_id")
_LOGIN = ("user_name", "password")
_PASSED_ON = (
    *("cc", "bcc", "from_", "reply_to", "sender", "content_type", "charset", "text_part_charset"),
    *("body_part_header", "html_body_part_header", "dkim", "via", "via_options"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """Mail people. `mailer.mail` explains most options; these are other or more.

    `subject`, `subject_prefix`, `body`, `html_body`, `message_id` and the values of `headers` may hold fields
    of the batch, such as `${description}`.

    Attributes:
        from_: The author; write it `from` in the configuration.
        subject: A subject of your own for every mail, instead of the headline.
        subject_prefix: A text before every subject, such as `"[staging] "`.
        body: A plain text of your own. The mail then has HTML only if you give `html_body` too.
        html_body: An HTML text of your own, beside your plain text or the usual one.
        attachments: Contents by file name: bytes, a string, or, in the configuration only, a `Path` to read.
        message_id: An id of your own; it must hold `${id}`, because each notification needs another.
        failures: How much readers may see of the failures: `none`, `counts`, `messages` or `full`.
        dkim: As in `mailer.mail`. In the configuration only.
        via_options: As in `mailer.mail`. `on()` replaces it as a whole, so that a password stays with its
            server.
        override_options: Options that override all others, even those of `on()`, such as the recipients on a
            staging system. In the configuration only.
    """

    name: ClassVar[str] = "email"
    secrets: ClassVar[frozenset[str]] = frozenset({"via_options.password", "via_options.oauth2_file"})
    credentials: ClassVar[frozenset[str]] = frozenset({"via_options"})
    configured_only: ClassVar[frozenset[str]] = frozenset(
        # stored options must not choose a program to run, or undo the operator's overrides
        {"via_options.location", "via_options.arguments", "via_options.keyring", "dkim", "override_options"}
    )

    to: str | list[str]
    cc: str | list[str] | None = None
    bcc: str | list[str] | None = None
    from_: str | None = None
    reply_to: str | list[str] | None = None
    sender: str | None = None
    smtp_envelope_to: str | list[str] | None = None
    subject: str | None = None
    subject_prefix: str = ""
    body: str | None = None
    html_body: str | None = None
    content_type: str | None = None
    attachments: Mapping[str, bytes | str | Path] | None = field(default=None, repr=False)
    charset: str = "utf-8"
    text_part_charset: str | None = None
    body_part_header: Mapping[str, str] | None = None
    html_body_part_header: Mapping[str, str] | None = None
    message_id: str | None = None
    headers: Mapping[str, str] | None = None
    failures: str = FULL
    dkim: Mapping[str, Any] | None = field(default=None, repr=False)
    via: str | None = None
    via_options: Mapping[str, Any] | None = field(default=None, repr=False)
    override_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the options as far as possible; only the sending process reads `env:NAME` references."""
        self._check_addresses()
        check_failures(self.failures)
        check_headers(self.headers or {})
        for option in _TEMPLATES:
            if (text := getattr(self, option)) is not None:
                check_template(option, text)
        for name, text in (self.headers or {}).items():
            check_template(f"headers: {name}", text)
        header_line("Subject", self.subject_prefix + (self.subject or ""))
        self._check_parts()
        if self.message_id is not None and "${id}" not in self.message_id:
            raise ValueError("message_id must hold ${id}, because each notification needs an id of its own")
        if self.dkim is not None:
            check_dkim(self.dkim)
        if not is_reference(self.via):
            choose_transport(self.via, _without_unread(self.via_options or {}))
        if self.override_options is not None:
            self._overridden()

    def send(self, notification: Notification) -> Reply:
        """Mail the notification. Only recipients that were refused for now get the next attempt.

        Raises:
            NotificationFailed: The server refused everybody, or somebody for now.
        """
        if self.override_options is not None:
            return self._overridden().send(notification)
        recipients = choose_owed(self._recipients(), notification)
        if not recipients:
            return Reply("none of the recipients still waits for it")
        try:
            receipt = self._mail(notification, recipients)
        except MailFailed as exc:
            add_owed(exc, recipients)
            raise
        return settle_receipt(receipt, notification)

    def _recipients(self) -> tuple[str, ...]:
        """Return the recipients, each once."""
        written = (self.smtp_envelope_to,) if self.smtp_envelope_to else (self.to, self.cc, self.bcc)
        found = [address.spec for one in written for address in parse_addresses("to", one)]
        return tuple(dict.fromkeys(found))

    def _mail(self, notification: Notification, recipients: list[str]) -> Receipt:
        values = fields_of(restrict(notification, self.failures))
        body, html_body = self._bodies(notification, values)
        return mail(
            self.to,
            smtp_envelope_to=recipients,
            subject=fill_header(self.subject_prefix + (self.subject or "${headline}"), values),
            body=body,
            html_body=html_body,
            attachments={name: _read(name, content) for name, content in (self.attachments or {}).items()},
            message_id=fill_header(self.message_id or f"${{id}}@{self._host}", values),
            headers=self._headers(values),
            **{option: getattr(self, option) for option in _PASSED_ON},
        )

    def _bodies(self, notification: Notification, values: Mapping[str, str]) -> tuple[str | None, str | None]:
        """Return the plain text and the HTML, with characters replaced that their charsets lack."""
        digest = write_digest(notification, self.failures)
        is_html = (self.content_type or "").lower() == "text/html"
        fill = fill_html if is_html else fill_text
        body = write_text(digest) if self.body is None else fill(self.body, values)
        body = _to_charset(body, self.text_part_charset or self.charset, is_html=is_html)
        if self.body is not None and self.html_body is None:
            return body, None
        html = write_html(digest) if self.html_body is None else fill_html(self.html_body, values)
        return body, _to_charset(html, self.charset, is_html=True)

    def _headers(self, values: Mapping[str, str]) -> dict[str, str]:
        thread = f"<{values['bid']}@{self._host}>"  # all mails of a batch answer this imaginary one
        headers = {"Auto-Submitted": "auto-generated", "References": thread, "In-Reply-To": thread}
        own = {name.lower() for name in self.headers or {}}
        kept = {name: value for name, value in headers.items() if name.lower() not in own}
        return kept | {name: fill_header(value, values) for name, value in (self.headers or {}).items()}

    @property
    def receiver(self) -> str:
        """The server and its user."""
        if self.override_options is not None:
            return self._overridden().receiver
        options = self.via_options or {}
        user, where = quote(str(options.get("user_name") or ""), ""), options.get("address") or "localhost"
        port = options.get("port")
        return f"smtp://{user}@{where}" + (f":{port}" if port else "")

    @property
    def _host(self) -> str:
        # the same on every worker, so not the host name in the default of from_
        return parse_addresses("from", self.from_ or self.to)[0].host

    def _check_addresses(self) -> None:
        named = {each: _names_somebody(each.rstrip("_"), getattr(self, each)) for each in _ADDRESSES}
        if not named["to"]:
            raise ValueError("to is required: the address, or a list of addresses, the mail goes to")
        if self.smtp_envelope_to and not named["smtp_envelope_to"]:
            raise ValueError("smtp_envelope_to holds no address: leave it out, or name the real recipients")

    def _check_parts(self) -> None:
        one_part = self.body is not None and self.html_body is None
        if self.content_type is not None and self.body is None:
            raise ValueError("content_type is the type of body: give a body, or html_body instead of both")
        if not isinstance(self.attachments or {}, Mapping):
            raise TypeError("attachments must be a mapping of contents by file name")
        for name, content in (self.attachments or {}).items():
            if not isinstance(content, (bytes, str, Path)):
                kind = type(content).__name__
                raise TypeError(
                    f"attachments: the content of {name!r} must be bytes, a str or a Path, got {kind}"
                )
        write_parts(
            self.body,
            None if one_part else "",
            dict.fromkeys(self.attachments or {}, b""),
            charsets=(self.text_part_charset or self.charset, self.charset),
            part_headers=(self.body_part_header, self.html_body_part_header),
            content_type=self.content_type,
        )

    def _overridden(self) -> Email:
        """Return this mail with `override_options` applied."""
        if not isinstance(self.override_options, Mapping):
            raise TypeError('override_options must be a mapping of options, such as {"to": "me@example.com"}')
        over = {"from_" if name == "from" else name: value for name, value in self.override_options.items()}
        known = [each.name for each in fields(self)]
        if unknown := [name for name in over if name not in known]:
            hint = did_you_mean(unknown[0], known)
            raise ValueError(f"override_options: there is no option {unknown[0]!r}{hint}")
        return replace(self, **{"override_options": None, **over})


def _read(name: str, content: bytes | str | Path) -> bytes | str:
    if not isinstance(content, Path):
        return content
    try:
        return content.read_bytes()
    except OSError as exc:
        message = f"attachments: {name!r} cannot be read from {content}: {exc.strerror}"
        raise NotificationFailed(message) from None


def _to_charset(text: str, charset: str, *, is_html: bool = False) -> str:
    """Replace characters that a charset lacks, because no text of a batch may stop its mail."""
    return text.encode(charset, "xmlcharrefreplace" if is_html else "replace").decode(charset)


def _names_somebody(option: str, written: Addresses | None) -> bool:
    """Return whether there is an address, or a reference that only the sending process reads."""
    found = parse_addresses(option, _without_references(written))
    return bool(found) or any(map(is_reference, [written] if isinstance(written, str) else written or ()))


def _without_references(written: Addresses | None) -> Addresses | None:
    if isinstance(written, str) or not isinstance(written, Iterable):
        return None if is_reference(written) else written
    return [text for text in written if not is_reference(text)]


def _without_unread(via_options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options that can be checked: no references, except in place of the login."""
    if not isinstance(via_options, Mapping):
        return via_options  # the check refuses it
    return {k: None if is_reference(v) and k not in _LOGIN else v for k, v in via_options.items()}
