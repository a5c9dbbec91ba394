"""A mailer in one call, with Pony's option names: `mail(to=…, subject=…, body=…)`.

You can use it without batches. It never prompts at a terminal, opens a file because a text looks like a path,
or trusts a certificate that it cannot verify.

    >>> from celery_batches_notify.notifiers import mailer
    >>> receipt = mailer.mail(to="ops@example.com", subject="Hi", body="Ready.", via="test")
    >>> receipt.accepted
    ('ops@example.com',)
    >>> mailer.outbox.pop().message["Subject"]
    'Hi'

"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery_batches_notify.notifiers.mailer.address import Addresses
from celery_batches_notify.notifiers.mailer.dkim import check_dkim, sign_letter
from celery_batches_notify.notifiers.mailer.letter import (
    Attachments,
    Headers,
    Letter,
    address_letter,
    write_parts,
)
from celery_batches_notify.notifiers.mailer.receipt import MailFailed, Receipt, Refusal
from celery_batches_notify.notifiers.mailer.transport import choose_transport, default_from, outbox

__all__ = ["Letter", "MailFailed", "Receipt", "Refusal", "mail", "outbox"]


def mail(
    to: Addresses,
    *,
    cc: Addresses | None = None,
    bcc: Addresses | None = None,
    from_: str | None = None,
    subject: str = "",
    body: str | None = None,
    html_body: str | None = None,
    attachments: Attachments | None = None,
    reply_to: Addresses | None = None,
    sender: str | None = None,
    smtp_envelope_to: Addresses | None = None,
    message_id: str | None = None,
    date: datetime | None = None,
    headers: Headers | None = None,
    content_type: str | None = None,
    charset: str = "utf-8",
    text_part_charset: str | None = None,
    body_part_header: Headers | None = None,
    html_body_part_header: Headers | None = None,
    dkim: Mapping[str, Any] | None = None,
    via: str | None = None,
    via_options: Mapping[str, Any] | None = None,
    **from_mapping: str,
) -> Receipt:
    """Send one mail, and return who got it and who did not.

    Args:
        to: Recipients: `user@host` or `Name <user@host>`; several in a list or separated by commas.
        cc: More recipients, whom everybody sees.
        bcc: More recipients, whom nobody sees.
        from_: The author; also accepted as `**{"from": …}`. By default the `user_name` in `via_options` if
            that is an address, else `celery@` and this machine's name.
        subject: One line.
        body: The plain text.
        html_body: The HTML text; if both are given, mail clients choose.
        attachments: Contents by file name; strings are sent as UTF-8. The mailer reads no file.
        reply_to: The address for answers.
        sender: The sender on behalf of `from_`, who also gets bounces.
        smtp_envelope_to: The real recipients, instead of to, cc and bcc.
        message_id: `<unique@domain>`; generated if None. Keep it when you send the same mail again.
        date: The Date header; now if None.
        headers: More headers by name.
        content_type: The type of `body` if that is not plain text, such as `text/html`; without `html_body`.
        charset: The charset of the texts.
        text_part_charset: The charset of `body`, if it is another.
        body_part_header: Headers of the part that holds `body`.
        html_body_part_header: Headers of the part that holds `html_body`.
        dkim: `domain`, `selector` and `private_key` of a signature (extra `dkim`).
        via: `smtp`, `sendmail` or `test` (which appends to `outbox`). By default SMTP if `via_options` has an
            `address`, else sendmail if this machine has it, else SMTP to localhost.
        via_options: The options of `smtp` and `sendmail`; see `docs/how-to/email.md`. Timeouts in seconds.
        from_mapping: `from`, which is a keyword of Python.

    Raises:
        TypeError: An argument is unknown or of a wrong type. Nothing was sent.
        ValueError: An argument has a wrong value; the text says what to write. Nothing was sent.
        MailFailed: Nobody got the mail; the error says whether sending again may help.
    """
    if unknown := sorted(set(from_mapping) - {"from"}):
        raise TypeError(f"mail() got unknown options: {', '.join(unknown)}; see its documentation")
    if dkim is not None:
        check_dkim(dkim)
    options = via_options or {}
    transport = choose_transport(via, options)
    message = write_parts(
        body,
        html_body,
        attachments,
        charsets=(text_part_charset or charset, charset),
        part_headers=(body_part_header, html_body_part_header),
        content_type=content_type,
    )
    letter = address_letter(
        message,
        {"to": to, "cc": cc, "bcc": bcc, "reply_to": reply_to, "smtp_envelope_to": smtp_envelope_to},
        from_=from_ or from_mapping.get("from") or default_from(options),
        sender=sender,
        subject=subject,
        message_id=message_id,
        date=date or datetime.now(UTC),
        headers=headers,
    )
    refused, code = transport(letter if dkim is None else sign_letter(letter, dkim))
    out = {refusal.address for refusal in refused}
    accepted = tuple(address for address in letter.recipients if address not in out)
    return Receipt(message_id=letter.message_id, accepted=accepted, refused=refused, status_code=code)
