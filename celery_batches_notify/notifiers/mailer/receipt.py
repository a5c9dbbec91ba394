"""The result of a mail: who accepted it, who refused it, and why."""

from __future__ import annotations

from dataclasses import dataclass

from celery_batches_notify.errors import NotificationFailed

LOGIN_WANTED = frozenset({530, 534, 535, 538})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One recipient that the server refused, with its code (550 …) and its words."""

    address: str
    code: int
    text: str

    @property
    def is_final(self) -> bool:
        """Whether sending it again is pointless. A refusal for lack of a login is not final."""
        return 500 <= self.code < 600 and self.code not in LOGIN_WANTED

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A mail that the server accepted for at least one recipient.

    Attributes:
        message_id: The mail's `Message-ID`, with its angle brackets.
        accepted: The addresses that the server accepted.
        refused: The others. Sending the mail again would reach `accepted` twice.
        status_code: SMTP's code for the mail (250), or None.
    """

    message_id: str
    accepted: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()
    status_code: int | None = None


class MailFailed(NotificationFailed):
    """Nobody got the mail, as far as the mailer can know; the text says why.

    `permanent` is true if the server refused this mail or all of its recipients for good. Failures of
    network, TLS and login are not permanent, because an operator can fix them. `alone` is true if the server
    accepts mails in general, but not this one, or not for these recipients now.

    Attributes:
        refused: The server's answer for each recipient, if the mailer got that far.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        status_code: int | None = None,
        refused: tuple[Refusal, ...] = (),
        alone: bool = False,
    ) -> None:
        super().__init__(message, permanent=permanent, status_code=status_code, alone=alone)
        self.refused = refused
