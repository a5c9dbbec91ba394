"""Every error of the package: one tree, one root, each with its mend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from celery.exceptions import ImproperlyConfigured
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu.exceptions import EncodeError


class BatchesError(Exception):
    """The root of all errors of this package: catch it to catch them all."""


class ConfigurationError(BatchesError, ImproperlyConfigured):
    """A setting is missing or wrong; the text names the setting and what to write there."""


class InvalidCallback(BatchesError, ValueError):
    """`Batch.on` cannot take this event, target or option; the text says which ones it can."""


class InvalidCall(BatchesError, TypeError):
    """A batch cannot take what it was given, or be used this way; the text says what it takes instead."""


class InvalidState(BatchesError, ValueError):
    """`Batch.all` was asked for a state that no batch can be in; the text lists those there are."""


class InvalidBid(BatchesError, ValueError):
    """A batch id is not 10 to 64 characters of `A-Z a-z 0-9 _ -`; check where it came from."""


class UnserialisableCall(BatchesError, EncodeError):
    """A call's arguments cannot be serialised; nothing of it was enrolled. Pass plain values."""


class NotAMember(BatchesError, RuntimeError):
    """A call in an open block cannot become a member of its batch; make it outside, as the text says."""


class NoSuchBatch(BatchesError, LookupError):
    """The batch is not stored yet, never was, was deleted, or has expired; the text says which.

    The end of its block stores it; `expires=` and `linger=` keep it longer.
    """


class BatchSealed(BatchesError):
    """The batch takes no more callbacks or members; create another, or use `keep_open=True`."""


class BatchCancelled(BatchesError):
    """The batch was cancelled and cannot be retried; create another."""


class BatchTimeout(BatchesError, CeleryTimeoutError):
    """The awaited event did not come within the timeout; the batch itself goes on."""


class WouldDeadlock(BatchesError, RuntimeError):
    """The code waits for something that cannot happen before it returns; wait elsewhere."""


class StoreUnavailable(BatchesError):
    """The Redis that holds the batches cannot be used just now; the text says why. Try again."""


class SchemaTooNew(BatchesError):
    """The batch was stored by a newer version of this package; upgrade this process."""


class CorruptBatch(BatchesError):
    """The batch in the store cannot be read: something else wrote there, or evicted a part of it."""


class EnqueueError(BatchesError):
    """The broker refused some of the calls; the batch is open and `batch.resume()` finishes what was begun.

    Attributes:
        bid: The batch.
        sent: Task ids the broker accepted.
        unsent: Task ids that were never handed to the broker.
        unknown: Task ids whose publish raised: the broker may hold them or not.
        why: The reason that the broker gave.
    """

    def __init__(
        self, bid: str, *, sent: Sequence[str], unsent: Sequence[str], unknown: Sequence[str], why: str
    ) -> None:
        super().__init__(
            f"batch {bid}: {len(sent)} calls sent, {len(unsent)} not sent, {len(unknown)} unknown: {why}; "
            "the batch stays open: call batch.resume(), which sends the rest under the same ids and goes on "
            "with the iterable of a map()"
        )
        self.bid = bid
        self.sent = tuple(sent)
        self.unsent = tuple(unsent)
        self.unknown = tuple(unknown)
        self.why = why

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Survive the way to another process, as the result of a task that raised it."""
        calls: dict[str, Any] = {"sent": self.sent, "unsent": self.unsent, "unknown": self.unknown}
        return partial(type(self), why=self.why, **calls), (self.bid,)


class NotificationFailed(BatchesError):
    """A notification did not arrive. Raise it from a notifier to say what comes next.

    Attributes:
        permanent: Whether trying again is pointless (the address is wrong, the receiver said stop).
        retry_after: Seconds the receiver asked to be left alone, or None. With the status code 429 or 503
            that is the pace of its address, and costs no attempt.
        status_code: The protocol's own answer code (HTTP, SMTP), or None.
        owed: Of several receivers, those that have not got it yet, in words of the notifier's own that are no
            secrets: the next attempt is given them as `Notification.owed`. Empty leaves that as it was.
        alone: Whether only this notification failed: then no other one waits because of it.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after: float | None = None,
        status_code: int | None = None,
        owed: Sequence[str] = (),
        alone: bool = False,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = retry_after
        self.status_code = status_code
        self.owed = tuple(owed)
        self.alone = alone
