"""Track which recipients of a mail still wait for it, because the next attempt goes only to them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import blake2b

from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.base import Reply
from celery_batches_notify.notifiers.mailer import MailFailed, Receipt, Refusal
from celery_batches_notify.text import one_line

logger = logging.getLogger(__name__)

_REFUSAL_CHARACTERS = 100


def choose_owed(recipients: Sequence[str], notification: Notification) -> list[str]:
    """Return the addresses of this attempt: all, or those that an earlier one did not reach."""
    return [spec for spec in recipients if not notification.owed or _token(spec) in notification.owed]


def settle_receipt(receipt: Receipt, notification: Notification) -> Reply:
    """Return who got the mail.

    Raises:
        NotificationFailed: Some were refused for now, and are still owed it.
    """
    message = _list_recipients(
        receipt.accepted, receipt.refused, len(receipt.accepted) + len(receipt.refused)
    )
    if owed := [refusal for refusal in receipt.refused if not refusal.is_final]:  # safety: refused-for-now
        tokens = [_token(refusal.address) for refusal in owed]
        raise NotificationFailed(message, status_code=owed[0].code, owed=tokens, alone=True)
    if receipt.refused:
        _log_refused(receipt.refused, notification)
    return Reply(message, receipt.status_code)


def add_owed(failed: MailFailed, recipients: Sequence[str]) -> None:
    """Complete the error of a mail that nobody got, so that recipients refused for good are left out."""
    if final := {refusal.address for refusal in failed.refused if refusal.is_final}:
        failed.owed = tuple(_token(spec) for spec in recipients if spec not in final)
    if len(failed.refused) > 1:
        failed.args = (_list_recipients((), failed.refused, len(recipients)),)


def _token(spec: str) -> str:
    """Return a recipient's name in the store. It is not the address, which may come from the environment."""
    return blake2b(spec.encode(), digest_size=8).hexdigest()


def _list_recipients(accepted: Sequence[str], refused: Sequence[Refusal], total: int) -> str:
    """Return who got the mail and who did not, the latter first, because a long list is cut."""
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
