"""Every error of the package: one tree with one root. Each docstring says what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from celery.exceptions import ImproperlyConfigured
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu.exceptions import EncodeError

PAUSE_AT_MOST = 365 * 24 * 3600.0


class BatchesError(Exception):
    """The root of all errors of this package. Catch it to catch them all."""


class ConfigurationError(BatchesError, ImproperlyConfigured):
    """A setting is missing or wrong; the text names the setting and what to write there."""


class InvalidCallback(BatchesError, ValueError):
    """`Batch.on` cannot take this event, target or option; the text says which ones it can."""


class InvalidCall(BatchesError, TypeError):
    """A batch cannot take this argument, or be used this way; the text says what to do instead."""


class InvalidState(BatchesError, ValueError):
    """`Batch.all` was called with a state that does not exist; the text lists those that do."""


class InvalidBid(BatchesError, ValueError):
    """A batch id is not 10 to 64 characters of `A-Z a-z 0-9 _ -`; check where it came from."""


class UnserialisableCall(BatchesError, EncodeError):
    """The arguments of a call cannot be serialised, so it was not enrolled. Pass plain values."""


class NotAMember(BatchesError, RuntimeError):
    """A call in an open block cannot become a member of the batch; make it outside, as the text says."""


class NoSuchBatch(BatchesError, LookupError):
    """The batch is not stored yet, never existed, was deleted, or has expired; the text says which.

    The end of its block stores a batch; `expires=` and `linger=` keep it longer.
    """


class BatchSealed(BatchesError):
    """The batch is closed to further callbacks or members; create another, or use `keep_open=True`."""


class BatchCancelled(BatchesError):
    """The batch was cancelled and cannot be retried; create another."""


class BatchTimeout(BatchesError, CeleryTimeoutError):
    """The event did not fire within the timeout. The batch itself goes on."""


class WouldDeadlock(BatchesError, RuntimeError):
    """The code would wait for something that cannot happen before it returns. Wait elsewhere."""


class StoreUnavailable(BatchesError):
    """The Redis that holds the batches cannot be used at the moment; the text says why. Try again."""


class SchemaTooNew(BatchesError):
    """A newer version of this package stored the batch. Upgrade this process."""


class CorruptBatch(BatchesError):
    """The batch in the store cannot be read, because something else overwrote or evicted a part of it."""


class EnqueueError(BatchesError):
    """The broker refused some of the calls. The batch stays open; `batch.resume()` sends the rest.

    Attributes:
        bid: The batch.
        sent: Ids of the tasks that the broker accepted.
        unsent: Ids of the tasks that were never handed to the broker.
        unknown: Ids of the tasks whose publishing raised: the broker may have them or not.
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
        """Let the error be pickled, because a task that raises it sends it to another process."""
        calls: dict[str, Any] = {"sent": self.sent, "unsent": self.unsent, "unknown": self.unknown}
        return partial(type(self), why=self.why, **calls), (self.bid,)


class NotificationFailed(BatchesError):
    """A notification did not arrive. A notifier raises it to say what happens next.

    Attributes:
        permanent: Whether another attempt is pointless, because the address is wrong or the receiver refuses.
        retry_after: Seconds for which the receiver asked to be left alone, or None; given as a number or a
            `timedelta`, at most a year. With status code 429 or 503 they set the pace of the address, and the
            attempt does not count.
        status_code: The answer code of the protocol (HTTP, SMTP), or None.
        owed: The recipients that have not got it yet, as names that the notifier chose and that are not
            secret. The next attempt gets them as `Notification.owed`. Empty leaves that unchanged.
        alone: Whether only this notification failed, so that others to the same address need not wait.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after: float | timedelta | None = None,
        status_code: int | None = None,
        owed: Sequence[str] = (),
        alone: bool = False,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = None if retry_after is None else _read_pause(retry_after)
        self.status_code = status_code
        self.owed = tuple(owed)
        self.alone = alone


def _read_pause(given: float | timedelta) -> float:
    """Return the seconds of `retry_after`. Any other value would end the delivery when it is stored."""
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    # safety: pause-number
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or math.isnan(seconds):
        raise TypeError(f"retry_after must be a number of seconds or a timedelta, got {given!r}")
    return min(max(seconds, 0), PAUSE_AT_MOST)
