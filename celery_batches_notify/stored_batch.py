"""A batch in the store: what can be asked of it, and done to it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from celery import Celery

from celery_batches_notify.doctor.reconcile import Repairs, reconcile_batch
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import BatchTimeout, ConfigurationError, NoSuchBatch, WouldDeadlock
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import current_member
from celery_batches_notify.model import BatchStatus, DeliveryAttempt, check_event
from celery_batches_notify.operations import cancel_batch, delete_batch, redeliver_event, retry_batch
from celery_batches_notify.producer.enrolment import Enrolment
from celery_batches_notify.producer.intake import Intake
from celery_batches_notify.results import ResultReader
from celery_batches_notify.settings import read_duration
from celery_batches_notify.share_link import sign_share
from celery_batches_notify.store.follow import Follow, wait_for_event


class StoredBatch:
    """The half of a `Batch` that needs it to be stored: reading, waiting and operating.

    Args:
        engine: The app's.
        enrolment: Takes the batch's calls to the store and the broker.
        intake: Takes calls in.
        description: What people read in lists and messages.
        tags: The words to find it by.
    """

    def __init__(
        self, engine: Engine, enrolment: Enrolment, intake: Intake, description: str, tags: tuple[str, ...]
    ) -> None:
        self.bid = enrolment.bid
        self.description = description
        self.tags = tags
        self._engine = engine
        self._enrolment = enrolment
        self._intake = intake

    @property
    def app(self) -> Celery:
        """The Celery app whose calls the batch takes."""
        return self._engine.app

    def __repr__(self) -> str:
        return f"<Batch {self.bid} {self.description!r}>"

    def status(self) -> BatchStatus:
        """Read the batch's status. Raises `NoSuchBatch` if it is not stored (any more)."""
        self._refuse_if_not_stored()
        engine = self._engine
        status = engine.store.read_status(self.bid)
        return replace(status, reader=ResultReader(engine.app, engine.store))

    def join(self, timeout: float | timedelta | None = None, event: str = "finish") -> BatchStatus:
        """Wait until an event has fired; return the status.

        Args:
            timeout: Seconds or a `timedelta`; None waits as long as it takes.
            event: What to wait for.

        Raises:
            BatchTimeout: It did not fire in time.
            WouldDeadlock: Called inside the batch's own block, or by a member of it or of a batch below it.
            NoSuchBatch: The batch is gone.
        """
        awaited = check_event(event)
        if self._intake.is_open_here or self._is_around(current_member(self._engine.app)):
            raise WouldDeadlock(f"batch {self.bid} cannot finish while this code, a part of it, waits for it")
        self._refuse_if_not_stored()
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if not wait_for_event(self._engine.store, self.bid, awaited, seconds):
            raise BatchTimeout(f"batch {self.bid}: no {event} within {seconds} s; it goes on")
        return self.status()

    def follow(self) -> Follow:
        """Iterate over the batch's `Progress` as it moves, with `for` or `async for`, until it finished.

        Raises:
            NoSuchBatch: The batch is not stored yet.
        """
        self._refuse_if_not_stored()
        return Follow(self._engine.store, self.bid)

    def deliveries(self) -> list[DeliveryAttempt]:
        """Read the log of the last 100 attempts to deliver this batch's callbacks, oldest first."""
        return self._engine.store.read_deliveries(self.bid)

    def redeliver(self, event: str, *, n: int | None = None, all: bool = False) -> int:  # noqa: A002
        """Send the callbacks of an event again that were given up or are stuck, under the same ids.

        Those that wait for their next attempt go at once. Stuck is what was published and not heard of for
        5 minutes; a task of yours, which may take longer, for an hour. What is under way is left alone.

        Args:
            event: An event that has fired.
            n: Only this one, from 0 in the order of their declaration, though it was delivered.
            all: Those that were delivered or skipped, too.

        Returns:
            How many are sent.

        Raises:
            InvalidCallback: There is no such event or callback.
            NoSuchBatch: The batch is gone.
        """
        self._refuse_if_not_stored()
        return redeliver_event(self._engine, self.bid, check_event(event), n=n, ended=all)

    @property
    def cancelled(self) -> bool:
        """Whether the batch was cancelled; a long task asks this now and then, and returns."""
        return self._engine.store.is_cancelled(self.bid)

    def cancel(self, *, terminate: bool = False) -> None:
        """Cancel the batch and its children: workers discard members as they arrive. Safe to repeat.

        Args:
            terminate: End running members too, where the worker's pool can (prefork and gevent).

        Raises:
            NoSuchBatch: The batch is gone.
        """
        self._refuse_if_not_stored()
        cancel_batch(self._engine, self.bid, terminate=terminate)

    def retry(self) -> int:
        """Send the dead members again, under their ids, those of children too; return how many.

        What cannot be sent again is counted in `status().unsendable`, with the reason.

        Raises:
            BatchCancelled: The batch was cancelled.
            NoSuchBatch: The batch is gone.
        """
        self._refuse_if_not_stored()
        return retry_batch(self._engine, self.bid)

    def reconcile(self, *, vanished: str = "leave") -> Repairs:
        """Repair the batch and its children from the result backend and the workers; return what was done.

        Safe to repeat, and to run from many places at once. No member is counted that may still run.

        Args:
            vanished: What becomes of members that no queue, worker or result backend knows any more: `leave`
                them waiting, count them as `dead`, or `resend` those whose calls are kept (`keep_calls`).
                Only if all could be asked, and no worker answers that has no batches: it may have run them.

        Raises:
            ConfigurationError: `vanished` is none of these.
            NoSuchBatch: The batch is gone.
        """
        self._refuse_if_not_stored()
        return reconcile_batch(self._engine, self.bid, vanished=vanished)

    def share(self, seconds: float | timedelta = 7 * 24 * 3600) -> str:
        """Return a link to a page that shows how far the batch is, to whoever has it: no failures, no ids.

        Args:
            seconds: How long the link is good, in seconds or as a `timedelta`.

        Raises:
            ConfigurationError: `batches_web_url` or `batches_web_secret` is not set.
        """
        settings = self._engine.settings
        if not settings.web_url or not settings.web_secret:
            raise ConfigurationError("to share a batch, set batches_web_url and batches_web_secret")
        length = read_duration("seconds", seconds)
        token = sign_share(settings.web_secret, self.bid, int(time.time() + length.total_seconds()))
        return f"{settings.web_url.rstrip('/')}/s/{token}"

    def delete(self) -> bool:
        """Remove the records of the batch and its children; return whether there was one. Safe to repeat.

        Its tasks run on and count nowhere, its callbacks are not called any more. A parent counts it as dead.
        """
        self._enrolment.is_sealed = True
        return delete_batch(self._engine, self.bid)

    def _is_around(self, member: Membership | None) -> bool:
        """Whether a running member belongs to this batch, or to one below it."""
        if member is None:
            return False
        return self.bid in (member.bid, *self._engine.store.walk_ancestors(member.bid))

    def _refuse_if_not_stored(self) -> None:
        """Ask the store in case a reply was lost; raise `NoSuchBatch` if the batch is not there yet."""
        if not self._enrolment.is_stored and self._engine.store.read_progress(self.bid) is None:
            raise NoSuchBatch(
                f"batch {self.bid} is not stored yet: the end of its block stores it, as do add(), map() and "
                "seal() outside of one"
            )
