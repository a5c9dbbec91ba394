"""Write a mail: its headers, its parts and its envelope. Nothing here touches network or disk."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from urllib.parse import quote

from celery_batches_notify.notifiers.mailer.address import (
    Address,
    Addresses,
    address_line,
    parse_address,
    parse_addresses,
)
from celery_batches_notify.notifiers.mailer.header import HeaderLine, header_line, is_one_line

Headers = Mapping[str, str]
Attachments = Mapping[str, bytes | str]

_POLICY = SMTP.clone(cte_type="7bit")
_MESSAGE_ID = re.compile(r"[^\s<>@]+@[^\s<>@]+")
_TEXT_TYPE = re.compile(r"text/([A-Za-z0-9.+-]{1,60})")
_LONGEST = 255
_FILE_NAME = re.compile(r"[A-Za-z0-9_.,+ -]+")
_SET_BY_OPTION = {
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "from": "from_",
    "sender": "sender",
    "reply-to": "reply_to",
    "subject": "subject",
    "date": "date",
    "message-id": "message_id",
    "content-type": "charset, body_part_header or html_body_part_header",
    "content-transfer-encoding": "charset",
    "mime-version": "charset",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail that is ready to be sent.

    Attributes:
        message: Headers and parts, as a standard `EmailMessage`.
        sender: The envelope's sender, who gets bounces.
        recipients: The envelope's recipients. Bcc ones are only here.
        signature: The value of the header `DKIM-Signature`, or empty.
    """

    message: EmailMessage
    sender: str
    recipients: tuple[str, ...]
    signature: str = ""

    @property
    def message_id(self) -> str:
        """The `Message-ID` header, with its angle brackets."""
        return str(self.message["Message-ID"])

    def as_bytes(self, linesep: str = "\r\n") -> bytes:
        """Return the whole mail in 7-bit ASCII."""
        signature = f"DKIM-Signature: {self.signature}\r\n".replace("\r\n", linesep) if self.signature else ""
        return signature.encode() + self.message.as_bytes(policy=_POLICY.clone(linesep=linesep))


def write_parts(
    body: str | None,
    html_body: str | None,
    attachments: Attachments | None,
    *,
    charsets: tuple[str, str],
    part_headers: tuple[Headers | None, Headers | None],
    content_type: str | None = None,
) -> EmailMessage:
    """Put texts and files into a mail without headers.

    Args:
        body: The plain text, or None.
        html_body: The HTML text, or None.
        attachments: Contents by file name.
        charsets: The charsets of the plain text and of the HTML.
        part_headers: More headers for the part of the plain text, and for that of the HTML.
        content_type: The type of `body`, if that is not plain text: another kind of `text/…`.

    Raises:
        TypeError: A text or a file's content is of another type.
        ValueError: A text cannot be written in its charset, or a file's name or a header is unusable.
    """
    parts = []
    subtype = _read_content_type(content_type, alone=html_body is None)
    if body is not None or html_body is None:
        parts.append(_text_part("body", body or "", subtype, charsets[0], part_headers[0]))
    if html_body is not None:
        parts.append(_text_part("html_body", html_body, "html", charsets[1], part_headers[1]))
    text = _together("alternative", parts)
    return _together("mixed", [text, *(_file_part(name, data) for name, data in (attachments or {}).items())])


def address_letter(
    message: EmailMessage,
    people: Mapping[str, Addresses | None],
    *,
    from_: str,
    sender: str | None,
    subject: str,
    message_id: str | None,
    date: datetime,
    headers: Headers | None,
) -> Letter:
    """Add headers and an envelope to a mail's parts.

    Args:
        message: The parts.
        people: `to`, `cc`, `bcc`, `reply_to` and `smtp_envelope_to`.
        from_: The author.
        sender: The sender, if that is not the author.
        subject: One line.
        message_id: Its id, or None.
        date: Its date.
        headers: More headers.

    Raises:
        TypeError: An address or a header is not a string.
        ValueError: An address or a header is missing or unusable.
    """
    lists = {option: parse_addresses(option, written) for option, written in people.items()}
    if not lists["to"]:
        raise ValueError("to is required: the address, or a list of addresses, the mail goes to")
    writers, envelope_from = _writers(from_, sender)
    message["From"] = address_line("From", writers)
    if sender:
        message["Sender"] = address_line("Sender", [envelope_from])
    for header, option in (("To", "to"), ("Cc", "cc"), ("Reply-To", "reply_to")):
        if lists[option]:
            message[header] = address_line(header, lists[option])
    message["Subject"] = header_line("Subject", subject)
    message["Date"] = header_line("Date", format_datetime(date))
    message["Message-ID"] = header_line("Message-ID", _message_id(message_id, writers[0].host))
    for line in check_headers(headers or {}):
        message[line.name] = line
    envelope = lists["smtp_envelope_to"] or (*lists["to"], *lists["cc"], *lists["bcc"])
    recipients = tuple(dict.fromkeys(address.spec for address in envelope))
    return Letter(message=message, sender=envelope_from.spec, recipients=recipients)


def check_headers(headers: Headers) -> list[HeaderLine]:
    """Return the user's own headers as header lines.

    Raises:
        TypeError: They are not a mapping of strings.
        ValueError: One would not stay on its line, or an option sets it.
    """
    if not isinstance(headers, Mapping):
        kind = type(headers).__name__
        raise TypeError(f'headers must be a mapping such as {{"X-Team": "billing"}}, got a {kind}')
    for name in headers:
        if str(name).lower() in _SET_BY_OPTION:
            raise ValueError(f"headers: {name} cannot be set here; use {_SET_BY_OPTION[name.lower()]}")
    return [header_line(name, value) for name, value in headers.items()]


def _writers(from_: str, sender: str | None) -> tuple[tuple[Address, ...], Address]:
    writers = parse_addresses("from", from_)
    if not writers:
        raise ValueError("from is empty: write the address the mail comes from")
    if len(writers) > 1 and not sender:
        raise ValueError("from names several people: name the one who sends the mail as sender")
    return writers, parse_address("sender", sender) if sender else writers[0]


def _together(subtype: str, parts: list[EmailMessage]) -> EmailMessage:
    if len(parts) == 1:
        return parts[0]
    whole = EmailMessage(policy=_POLICY)
    whole["MIME-Version"] = "1.0"
    whole["Content-Type"] = f"multipart/{subtype}"
    for part in parts:
        whole.attach(part)
    return whole


def _read_content_type(content_type: str | None, *, alone: bool) -> str:
    if content_type is None:
        return "plain"
    if not isinstance(content_type, str) or not (found := _TEXT_TYPE.fullmatch(content_type)):
        raise ValueError(f"content_type must be a kind of text such as text/html, got {content_type!r}")
    if not alone:
        raise ValueError("content_type says what body is: leave it out, or leave html_body out")
    return found[1].lower()


def _text_part(
    option: str, text: object, subtype: str, charset: str, headers: Headers | None
) -> EmailMessage:
    if not isinstance(text, str):
        raise TypeError(f"{option} must be a string, got a {type(text).__name__}")
    part = EmailMessage(policy=_POLICY)
    try:
        # quoted-printable keeps every character, even control ones and spaces at a line's end
        part.set_content(text, subtype=subtype, charset=charset, cte="quoted-printable")
    except (LookupError, UnicodeError) as exc:
        raise ValueError(
            f'{option} cannot be written in {charset!r} ({exc}); leave charset at "utf-8"'
        ) from None
    for written, value in (headers or {}).items():
        name = written.replace("_", "-") if isinstance(written, str) else written  # Pony's symbols have _
        if str(name).lower() == "content-transfer-encoding":
            raise ValueError(f"{option}_part_header: the mailer sets {name} itself; leave it out")
        del part[name]
        part[name] = header_line(name, value)
    return part


def _file_part(name: str, data: bytes | str) -> EmailMessage:
    if not isinstance(name, str) or not name or not is_one_line(name) or len(name.encode()) > _LONGEST:
        raise ValueError(f"attachments: {name!r} is not a file name of at most {_LONGEST} bytes")
    if not isinstance(data, (bytes, str)):
        raise TypeError(
            f"attachments: the content of {name!r} must be bytes or a string, got {type(data).__name__}"
        )
    kind, encoding = mimetypes.guess_type(name)
    maintype, _, subtype = (kind or "application/octet-stream").partition("/")
    if encoding or maintype in ("message", "multipart"):  # these two must not be base64
        maintype, subtype = "application", "octet-stream"
    part = EmailMessage(policy=_POLICY)
    content = data.encode() if isinstance(data, str) else data
    params = {"charset": "utf-8"} if isinstance(data, str) and maintype == "text" else None
    part.set_content(content, maintype, subtype, params=params)
    plain = _FILE_NAME.fullmatch(name)
    named = f'filename="{name}"' if plain else f"filename*=utf-8''{quote(name, safe='')}"
    value = f"attachment; {named}"
    part["Content-Disposition"] = header_line("Content-Disposition", value, value)
    return part


def _message_id(written: str | None, host: str) -> str:
    if written is None:
        return make_msgid(domain=host)
    bare = written.removeprefix("<").removesuffix(">")
    if not _MESSAGE_ID.fullmatch(bare) or not bare.isascii() or "=?" in bare or len(bare) > _LONGEST:
        raise ValueError(f"message_id must be <unique-part@domain> in plain ASCII, got {written!r}")
    return f"<{bare}>"
