"""What users hold: a batch, and the batch that a running task belongs to."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from types import TracebackType
from typing import Any

from celery import Celery, Signature
from celery.result import AsyncResult

from celery_batches_notify.delivery.callbacks import Target
from celery_batches_notify.errors import (
    BatchSealed,
    BatchTimeout,
    ConfigurationError,
    InvalidCallback,
    WouldDeadlock,
)
from celery_batches_notify.model import BatchStatus, DeliveryAttempt, Event, check_bid
from celery_batches_notify.store.enrolments import Adder
from celery_batches_notify.store.follow import Follow, wait_for_event
from celery_batches_notify.tracking.declaration import Declaration
from celery_batches_notify.tracking.engine import Engine, find_engine
from celery_batches_notify.tracking.enrolment import CHUNK, Enrolment
from celery_batches_notify.tracking.headers import current_member
from celery_batches_notify.tracking.operations import (
    cancel_batch,
    delete_batch,
    publish_recorded,
    redeliver_event,
    retry_batch,
)
from celery_batches_notify.tracking.repair.reconcile import Repairs, reconcile_batch
from celery_batches_notify.tracking.sender import collecting, open_block
from celery_batches_notify.tracking.stored_results import ResultReader


class Batch:
    """A set of task calls that are watched together.

    Args:
        description: What people read in lists and messages, at most 1,000 characters.
        tags: Up to 16 words to find it by.
        callback_queue: The queue of its callbacks, where they have none of their own.
        expires: How long its record is kept after it last moved: seconds or a `timedelta`.
        linger: How long its record is kept after its success, at least 30 s.
        autoflush: Publish every so many calls of the block, which is then no longer all or none.
        keep_open: Others may add members until `seal()`.
        parent: The batch that this one is a member of. A batch that is opened inside `with current_batch():`
            is its child without being told so.
        app: The Celery app; the current one if not given.

    Raises:
        ConfigurationError: The app has no `Batches`, or a setting or argument is wrong.
    """

    def __init__(
        self,
        description: str = "",
        *,
        tags: Iterable[str] = (),
        callback_queue: str | None = None,
        expires: float | timedelta | None = None,
        linger: float | timedelta | None = None,
        autoflush: int | None = None,
        keep_open: bool = False,
        parent: Batch | None = None,
        app: Celery | None = None,
    ) -> None:
        engine = find_engine(app)
        declaration = Declaration(
            engine,
            description=description,
            tags=tags,
            callback_queue=callback_queue,
            expires=expires,
            linger=linger,
            keep_open=keep_open,
        )
        if autoflush is not None and autoflush < 1:
            raise ConfigurationError(f"autoflush: give a number of calls from 1 on, not {autoflush!r}")
        self.description, self.tags = declaration.description, declaration.tags
        self._declaration = declaration
        self._seals = not keep_open
        self._parent = parent._enrolment if parent is not None else None
        self._begin(engine, secrets.token_urlsafe(16), "owner", autoflush)

    def _begin(self, engine: Engine, bid: str, adder: Adder, autoflush: int | None = None) -> None:
        self.bid = bid
        self._engine = engine
        self._stored = adder != "owner"
        self._sealed = False
        self._block: AbstractContextManager[None] | None = None
        self._enrolment = Enrolment(
            engine.app,
            engine.store,
            engine.sender,
            bid,
            adder=adder,
            open_batch=self._open,
            autoflush=autoflush,
        )

    @classmethod
    def get(cls, bid: str, *, app: Celery | None = None) -> Batch:
        """Return the stored batch with this id.

        Raises:
            NoSuchBatch: It never was, was deleted, or has expired.
            InvalidBid: The id is malformed.
        """
        engine = find_engine(app)
        return cls._stored_one(engine, engine.store.read_status(check_bid(bid)))

    @classmethod
    def all(
        cls, tag: str | None = None, state: str | None = None, *, app: Celery | None = None
    ) -> Iterator[Batch]:
        """Iterate over the stored batches, newest first: those with this tag, those in this state."""
        engine = find_engine(app)
        for status in engine.store.list_batches():
            if (tag is None or tag in status.tags) and (state is None or status.state == state):
                yield cls._stored_one(engine, status)

    @classmethod
    def _stored_one(cls, engine: Engine, status: BatchStatus, adder: Adder = "other") -> Batch:
        batch = cls.__new__(cls)
        batch.description, batch.tags = status.description, status.tags
        batch._seals, batch._parent = False, None
        batch._begin(engine, status.bid, adder)
        return batch

    @property
    def app(self) -> Celery:
        """The Celery app whose calls the batch takes."""
        return self._engine.app

    def __repr__(self) -> str:
        return f"<Batch {self.bid} {self.description!r}>"

    # -- declaring ------------------------------------------------------------------------------

    def on(self, event: str, target: Target, /, **options: Any) -> Batch:
        """Declare who is told, or which task is called, when an event becomes true; return the batch.

        Args:
            event: `complete`, `success`, `death`, `finish`, `cancel`, `progress` (with `at=0.5`),
                `deadline` or `stall` (with `after=3600`).
            target: A notifier's class, registered name or profile, or a signature, which is called with
                the status (a dict) as its first argument, `.si()` ones without.
            options: The notifier's options, over the configured ones; and for any target
                `only_if={"failures": 1}`, rules that must hold or else it is skipped.

        Raises:
            InvalidCallback: The event, the target or an option cannot be used.
            ConfigurationError: The notifier's options do not make a notifier.
            BatchSealed: The batch is stored already.
        """
        if self._stored:
            raise BatchSealed(
                f"batch {self.bid} is stored already: declare its callbacks before its first call"
            )
        self._declaration.add_callback(event, target, options)
        return self

    # -- adding ---------------------------------------------------------------------------------

    def __enter__(self) -> Batch:
        self._refuse_if_sealed()
        if self._block is not None:
            raise WouldDeadlock(f"batch {self.bid}: its block is open already; use the inner calls directly")
        self._adopt()
        self._block = collecting(self._enrolment)
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(kind, exc, traceback)
        if kind is None:
            self._enrolment.submit(is_last=True, seals=self._seals)
            self._seal_unless_open()
        else:
            self._enrolment.discard()

    def add(self, *signatures: Signature[Any]) -> list[AsyncResult[Any]]:
        """Add calls, all or none; return their results. Outside a block this submits and seals at once.

        Raises:
            BatchSealed: The batch was sealed before, also by an earlier `add`.
            EnqueueError: The broker refused some; `resume()` finishes.
        """
        if self._block is not None:
            return [signature.apply_async() for signature in signatures]
        with self:
            return [signature.apply_async() for signature in signatures]

    def map(self, task: Any, iterable: Iterable[Any]) -> int:
        """Call `task` once per item, streamed in chunks; return how many. Outside a block this then seals.

        An iterable that raises leaves the batch open, with what was sent until then.
        """
        return self.starmap(task, ((item,) for item in iterable))

    def starmap(self, task: Any, iterable: Iterable[Sequence[Any]]) -> int:
        """Call `task` once per item with the item as its arguments; else as `map`."""
        inside = self._block is not None
        self._refuse_if_sealed()
        self._adopt()
        count = 0
        items = iter(iterable)
        while chunk := list(islice(items, CHUNK)):
            with collecting(self._enrolment):
                for arguments in chunk:
                    task.apply_async(tuple(arguments))
            count += len(chunk)
            if not inside:
                self._enrolment.submit()
        if not inside:
            self._seal_unless_open()
        return count

    def seal(self) -> None:
        """Say that all members are there; from here on events fire. Safe to repeat.

        Raises:
            BatchSealed: Calls of this object were not sent, or the batch was abandoned: nothing came from its
                producer for `batches_abandon_after`, so a worker sealed it.
        """
        if not self._enrolment.finished:
            raise BatchSealed(
                f"batch {self.bid} has calls that were not sent: call resume(), which seals too"
            )
        self._adopt()
        self._open()
        sealed = self._engine.store.seal_batch(self.bid, self._enrolment.unconfirmed)
        self._enrolment.unconfirmed.clear()
        publish_recorded(self._engine, self.bid, sealed)
        self._sealed = True

    def resume(self) -> None:
        """After an `EnqueueError` or `StoreUnavailable`, send the rest under the same ids, then seal.

        What is unknown is sent too: a message that arrived after all is counted once.

        Raises:
            EnqueueError: The broker refused again.
            BatchSealed: It came too late: the batch was abandoned.
        """
        self._enrolment.submit(seals=self._seals)
        self._seal_unless_open()

    # -- reading --------------------------------------------------------------------------------

    def status(self) -> BatchStatus:
        """Read the batch's status. Raises `NoSuchBatch` where it is not stored (any more)."""
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
            WouldDeadlock: Called inside the batch's own block, or by one of its members.
            NoSuchBatch: The batch is gone.
        """
        awaited = _check_event(event)
        member = current_member(self._engine.app)
        if self._block is not None or (member is not None and member.bid == self.bid):
            raise WouldDeadlock(f"batch {self.bid} cannot finish while this code, a part of it, waits for it")
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if not wait_for_event(self._engine.store, self.bid, awaited, seconds):
            raise BatchTimeout(f"batch {self.bid}: no {event} within {seconds} s; it goes on")
        return self.status()

    def follow(self) -> Follow:
        """Iterate over the batch's `Progress` as it moves, with `for` or `async for`, until it finished."""
        return Follow(self._engine.store, self.bid)

    def deliveries(self) -> list[DeliveryAttempt]:
        """Read the log of the last 100 attempts to deliver this batch's callbacks, oldest first."""
        return self._engine.store.read_deliveries(self.bid)

    def redeliver(self, event: str) -> int:
        """Send the callbacks of an event that has fired once more, under the same ids; return how many.

        Those still under way are left alone.

        Raises:
            NoSuchBatch: The batch is gone.
        """
        return redeliver_event(self._engine, self.bid, _check_event(event))

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
        cancel_batch(self._engine, self.bid, terminate=terminate)

    def retry(self) -> int:
        """Send the dead members again, under their ids, those of children too; return how many.

        What cannot be sent again is counted in `status().unsendable`, with the reason.

        Raises:
            BatchCancelled: The batch was cancelled.
            NoSuchBatch: The batch is gone.
        """
        return retry_batch(self._engine, self.bid)

    def reconcile(self, *, vanished: str = "leave") -> Repairs:
        """Repair the batch and its children from the result backend and the workers; return what was done.

        Safe to repeat, and to run from many places at once. No member is counted that may still run.

        Args:
            vanished: What becomes of members that no queue, worker or result backend knows any more: `leave`
                them waiting, or count them as `dead`, which is only done where all could be asked.

        Raises:
            ConfigurationError: `vanished` is neither.
            NoSuchBatch: The batch is gone.
        """
        return reconcile_batch(self._engine, self.bid, vanished=vanished)

    def delete(self) -> bool:
        """Remove the records of the batch and its children; return whether there was one. Safe to repeat.

        Its tasks run on and count nowhere, its callbacks are not called any more. A parent counts it as dead.
        """
        self._sealed = True
        return delete_batch(self._engine, self.bid)

    # -- beneath --------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Become a child of the running member's batch, if its block is open around here."""
        around = open_block(self._engine.app)
        if not self._stored and self._parent is None and isinstance(around, Enrolment) and around.is_members:
            self._parent = around

    def _open(self) -> None:
        if self._stored:
            return
        if self._parent is None:
            self._declaration.store(self.bid, None)
        else:
            index = self._parent.enrol_child(self.bid)
            self._declaration.store(self.bid, (self._parent.bid, index))
            self._parent.confirm_child(index)
        self._stored = True

    def _seal_unless_open(self) -> None:
        if self._seals:
            self.seal()

    def _refuse_if_sealed(self) -> None:
        if self._sealed:
            raise BatchSealed(
                f"batch {self.bid} takes no more calls: `add`, `map` and the end of a block seal it; put all "
                "calls into one block, or create it with keep_open=True and call seal() at the end"
            )


def current_batch(app: Celery | None = None) -> Batch | None:
    """Return the batch of the task that is running here, to add to it; None elsewhere, in callbacks too."""
    engine = find_engine(app)
    member = current_member(engine.app)
    if member is None:
        return None
    return Batch._stored_one(engine, engine.store.read_status(member.bid), member)


def outside_batch() -> AbstractContextManager[None]:
    """Let the calls of a `with` block go out at once and belong to no batch."""
    return collecting(None)


def _check_event(event: str) -> Event:
    if event not in list(Event):
        raise InvalidCallback(f"there is no event {event!r}; there are {', '.join(Event)}")
    return Event(event)
