"""Choose between `smtp`, `sendmail` and `test`, and check the options before anything is sent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from celery_batches_notify.notifiers.mailer import sendmail
from celery_batches_notify.notifiers.mailer.address import parse_address
from celery_batches_notify.notifiers.mailer.letter import Letter
from celery_batches_notify.notifiers.mailer.options import read_sendmail_options, read_smtp_options
from celery_batches_notify.notifiers.mailer.receipt import Refusal

Taken = tuple[tuple[Refusal, ...], int | None]
"""The refused recipients, and the server's code for the others, or None."""

Transport = Callable[[Letter], Taken]

TAKEN_BY_SMTP = 250

outbox: list[Letter] = []
"""The letters of `via="test"` in this process, oldest first. Empty it between tests."""


def choose_transport(via: str | None, via_options: Mapping[str, Any]) -> Transport:
    """Return the function that sends a letter and returns the refused recipients.

    Args:
        via: `smtp`, `sendmail` or `test`. None means SMTP if the options have an `address`, else sendmail if
            this machine has it, else SMTP.
        via_options: The options of the transport.

    Raises:
        TypeError: An option is of a wrong type.
        ValueError: The transport is unknown, or its options are wrong.
    """
    if not isinstance(via_options, Mapping):
        raise TypeError(f"via_options must be a mapping of options, got a {type(via_options).__name__}")
    if via is None:
        via = "smtp" if "address" in via_options or sendmail.find_sendmail() is None else "sendmail"
    match via:
        case "smtp":
            return _smtp(via_options)
        case "sendmail":
            return _sendmail(via_options)
        case "test":
            return _keep
    raise ValueError(f"via must be one of smtp, sendmail, test, got {via!r}")


def default_from(via_options: Mapping[str, Any]) -> str:
    """Return the default author: the login if that is an address, else `celery@<this host>`."""
    for guess in (str(via_options.get("user_name")), f"celery@{socket.gethostname()}"):
        try:
            return parse_address("from", guess).spec
        except ValueError:
            continue
    return "celery@localhost"


def _smtp(via_options: Mapping[str, Any]) -> Transport:
    options = read_smtp_options(via_options)

    def take(letter: Letter) -> Taken:
        from celery_batches_notify.notifiers.mailer import smtp  # noqa: PLC0415 -- yagmail is slow to import

        return smtp.send(letter, options), TAKEN_BY_SMTP

    return take


def _sendmail(via_options: Mapping[str, Any]) -> Transport:
    options = read_sendmail_options(via_options)

    def take(letter: Letter) -> Taken:
        sendmail.send(letter, options)
        return (), None

    return take


def _keep(letter: Letter) -> Taken:
    outbox.append(letter)
    return (), None
