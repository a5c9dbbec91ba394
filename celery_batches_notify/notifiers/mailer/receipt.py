"""What became of a mail: who took it, who refused it, and why."""

from __future__ import annotations

from dataclasses import dataclass

from celery_batches_notify.errors import NotificationFailed

LOGIN_WANTED = frozenset({530, 534, 535, 538})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One recipient that the server turned down, with its code (550 …) and its words."""

    address: str
    code: int
    text: str

    @property
    def is_final(self) -> bool:
        """Whether sending it again is pointless; what a login would change is not final."""
        return 500 <= self.code < 600 and self.code not in LOGIN_WANTED

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A mail that at least one recipient's server took over.

    Attributes:
        message_id: The mail's `Message-ID`, with its angle brackets.
        accepted: Addresses whose copy was taken over.
        refused: The others; sending again would reach those of `accepted` twice.
        status_code: SMTP's code for the mail (250), or None.
    """

    message_id: str
    accepted: tuple[str, ...]
    refused: tuple[Refusal, ...] = ()
    status_code: int | None = None


class MailFailed(NotificationFailed):
    """Nobody got the mail, as far as one can know; the text says why.

    `permanent` is true where the server refused this mail or all of its recipients for good. What lies in
    the way to the server (network, TLS, login) is not permanent: an operator can mend it. `alone` is true
    where the server takes mails, and only this one or its recipients not now.

    Attributes:
        refused: What the server said to each recipient, where it came to that.
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
