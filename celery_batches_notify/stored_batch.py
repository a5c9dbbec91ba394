"""Reads a stored batch, waits for it and operates on it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from celery import Celery

from celery_batches_notify.bar import draw_for_notebook
from celery_batches_notify.checks import check_event
from celery_batches_notify.doctor.reconcile import Repairs, reconcile_batch
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import (
    BatchesError,
    BatchTimeout,
    ConfigurationError,
    NoSuchBatch,
    WouldDeadlock,
)
from celery_batches_notify.headline import headline
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import current_member
from celery_batches_notify.model import BatchStatus, DeliveryAttempt
from celery_batches_notify.operations import cancel_batch, delete_batch, retry_batch
from celery_batches_notify.producer.enrolment import Enrolment
from celery_batches_notify.producer.intake import Intake
from celery_batches_notify.redelivery import redeliver_event
from celery_batches_notify.results import ResultReader
from celery_batches_notify.settings import read_duration
from celery_batches_notify.share_link import sign_share
from celery_batches_notify.store.follow import Follow, wait_for_event

if TYPE_CHECKING:
    from celery_batches_notify.typing import EventName


class StoredBatch:
    """The half of a `Batch` that needs it to be stored: reading, waiting and operating.

    Args:
        engine: The app's engine.
        enrolment: Takes the batch's calls to the store and the broker.
        intake: Takes calls in.
        description: A text for lists and messages.
        tags: Words to find the batch by.
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

    def _repr_html_(self) -> str | None:
        """Show the bar in a notebook; None, if the batch cannot be read, shows its `repr`."""
        try:
            status = self.status()
        except BatchesError:
            return None
        return draw_for_notebook(status, headline(status))

    def status(self) -> BatchStatus:
        """Read the batch's status. Raises `NoSuchBatch` if the batch is not stored, or is gone."""
        self._refuse_if_not_stored()
        engine = self._engine
        status = engine.store.read_status(self.bid)
        return replace(status, reader=ResultReader(engine.app, engine.store))

    def join(self, timeout: float | timedelta | None = None, event: EventName = "finish") -> BatchStatus:
        """Wait until an event has fired; return the status.

        Args:
            timeout: Seconds or a `timedelta`; None waits for ever.
            event: The event to wait for.

        Raises:
            BatchTimeout: The event did not fire in time.
            WouldDeadlock: The caller is inside the batch's block, or a member of it or of a batch below it.
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
        """Iterate over the batch's `Progress` as it moves, with `for` or `async for`, until it finishes.

        Raises:
            NoSuchBatch: The batch is not stored yet.
        """
        self._refuse_if_not_stored()
        return Follow(self._engine.store, self.bid)

    def deliveries(self) -> list[DeliveryAttempt]:
        """Read the log of the last 100 attempts to deliver this batch's callbacks, oldest first."""
        return self._engine.store.read_deliveries(self.bid)

    def redeliver(self, event: EventName, *, n: int | None = None, all: bool = False) -> int:  # noqa: A002
        """Send the callbacks of an event again that were given up or are stuck, under the same ids.

        Callbacks that wait for their next attempt are sent at once. A notification is stuck if nothing was
        heard of it for 5 minutes after it was published; a task of yours, which may take longer, after an
        hour. Callbacks that are under way are left alone.

        Args:
            event: An event that has fired.
            n: Send only this callback, even if it was delivered; they are numbered from 0 as declared.
            all: Send those that were delivered or skipped, too.

        Returns:
            How many callbacks are sent.

        Raises:
            InvalidCallback: The event or the callback does not exist.
            NoSuchBatch: The batch is gone.
        """
        self._refuse_if_not_stored()
        return redeliver_event(self._engine, self.bid, check_event(event), n=n, ended=all)

    @property
    def cancelled(self) -> bool:
        """Whether the batch was cancelled. A long task can check this now and then, and return early."""
        return self._engine.store.is_cancelled(self.bid)

    def cancel(self, *, terminate: bool = False) -> None:
        """Cancel the batch and its children: workers discard members as they arrive. Safe to repeat.

        Args:
            terminate: Terminate running members too, if the worker's pool can do that (prefork and gevent).

        Raises:
            NoSuchBatch: The batch is gone.
        """
        self._refuse_if_not_stored()
        cancel_batch(self._engine, self.bid, terminate=terminate)

    def retry(self) -> int:
        """Send the dead members again, under their ids, also those of children; return how many.

        `status().unsendable` counts, by reason, the members that cannot be sent again.

        Raises:
            BatchCancelled: The batch was cancelled.
            NoSuchBatch: The batch is gone.
        """
        self._refuse_if_not_stored()
        return retry_batch(self._engine, self.bid)

    def reconcile(self, *, vanished: str = "leave") -> Repairs:
        """Repair the batch and its children from the result backend and the workers; return the repairs.

        Safe to repeat, and to run from many places at once. Members that may still run are left alone.

        Args:
            vanished: What to do with members that no queue, worker or result backend knows any more: `leave`
                them waiting, count them as `dead`, or `resend` those whose calls are kept (`keep_calls`).
                They are left waiting if not all could be asked, or if a worker without batches answers,
                because it may have run them.

        Raises:
            ConfigurationError: `vanished` is another word.
            NoSuchBatch: The batch is gone.
        """
        self._refuse_if_not_stored()
        return reconcile_batch(self._engine, self.bid, vanished=vanished)

    def share(self, seconds: float | timedelta = 7 * 24 * 3600) -> str:
        """Return a link to a page that shows how far the batch is, without failures and task ids.

        Everybody who has the link can open it. It holds the batch's id.

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
        """Remove the records of the batch and its children; return whether it existed. Safe to repeat.

        The tasks run on and are not counted, and callbacks are not called any more. A parent counts the batch
        as dead. This does not stop a batch that is not stored yet: the end of its block, or with
        `on_commit=` the commit, stores it and sends its calls, unless the block raises or the transaction is
        rolled back.
        """
        self._enrolment.is_sealed = True
        return delete_batch(self._engine, self.bid)

    def _is_around(self, member: Membership | None) -> bool:
        """Whether a running member belongs to this batch, or to one below it."""
        if member is None:
            return False
        return self.bid in (member.bid, *self._engine.store.walk_ancestors(member.bid))

    def _refuse_if_not_stored(self) -> None:
        """Raise `NoSuchBatch` if the batch is not stored. A reply may be lost, so this asks the store."""
        if not self._enrolment.is_stored and self._engine.store.read_progress(self.bid) is None:
            raise NoSuchBatch(
                f"batch {self.bid} is not stored yet: the end of its block stores it, as do add(), map() and "
                "seal() outside of one; with on_commit= its transaction's commit does"
            )
