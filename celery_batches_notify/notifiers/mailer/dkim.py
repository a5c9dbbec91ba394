"""Sign a mail for its domain (DKIM), by yagmail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from email import message_from_bytes
from email.policy import compat32
from pathlib import Path
from typing import Any

from celery_batches_notify.notifiers.mailer.letter import Letter
from celery_batches_notify.notifiers.mailer.receipt import MailFailed
from celery_batches_notify.notifiers.options import check_extra
from celery_batches_notify.notifiers.references import is_reference

_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_OPTIONS = ("domain", "selector", "private_key")


def check_dkim(dkim: object) -> None:
    """Raise `TypeError` or `ValueError` unless these are the options of a signature.

    They are `domain`, `selector` (the place of the public key in the domain's DNS), and `private_key`: an RSA
    key in PEM, or a `Path` to it.
    """
    if not isinstance(dkim, Mapping) or set(dkim) != set(_OPTIONS):
        raise TypeError(f"dkim must be a mapping with the keys {', '.join(_OPTIONS)}")
    for name in ("domain", "selector"):
        if not is_reference(dkim[name]) and not _HOST.fullmatch(str(dkim[name])):
            raise ValueError(f"dkim: {name} {dkim[name]!r} is not a name in the DNS")
    if not isinstance(dkim["private_key"], (str, Path)):
        raise TypeError("dkim: private_key must be a key in PEM, or a Path to it")
    check_extra("dkim", "dkim", "dkim")


def sign_letter(letter: Letter, dkim: Mapping[str, Any]) -> Letter:
    """Return the letter with a signature.

    Raises:
        MailFailed: The key cannot be read or used.
    """
    from yagmail.dkim import DKIM, add_dkim_sig_to_message  # noqa: PLC0415 -- yagmail is slow to import

    # It signs messages of the old policy only, because the new one refuses the folded header that it adds.
    copy = message_from_bytes(letter.as_bytes(), policy=compat32)
    key = _read_key(dkim["private_key"])
    domain, selector = (str(dkim[name]).encode() for name in ("domain", "selector"))
    try:
        add_dkim_sig_to_message(
            copy, DKIM(domain=domain, selector=selector, private_key=key, include_headers=None)
        )
    except Exception as exc:  # noqa: BLE001 -- the library raises many, and their texts may hold the key
        raise MailFailed(
            f"dkim: private_key cannot be used ({type(exc).__name__}); give an RSA key in PEM"
        ) from None
    return replace(letter, signature="\r\n".join(copy["DKIM-Signature"].split("\r\n")).strip())


def _read_key(private_key: str | Path) -> bytes:
    if isinstance(private_key, str):
        return private_key.encode()
    try:
        return private_key.read_bytes()
    except OSError as exc:
        raise MailFailed(f"dkim: private_key cannot be read from {private_key}: {exc.strerror}") from None
