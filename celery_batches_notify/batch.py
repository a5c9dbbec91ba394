"""What users hold: a batch, and the batch that a running task belongs to."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, NoReturn

from celery import Celery, Signature
from celery.result import AsyncResult

from celery_batches_notify.delivery.callbacks import Target
from celery_batches_notify.doctor.reconcile import Repairs, reconcile_batch
from celery_batches_notify.engine import Engine, find_engine
from celery_batches_notify.errors import (
    BatchSealed,
    BatchTimeout,
    ConfigurationError,
    InvalidCall,
    NoSuchBatch,
    WouldDeadlock,
)
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.arguments import check_signatures, check_task, explain_parent
from celery_batches_notify.messages.headers import current_member
from celery_batches_notify.model import BatchStatus, DeliveryAttempt, check_bid, check_event, check_state
from celery_batches_notify.operations import (
    cancel_batch,
    delete_batch,
    redeliver_event,
    retry_batch,
)
from celery_batches_notify.producer.declaration import Declaration
from celery_batches_notify.producer.enrolment import Enrolment
from celery_batches_notify.producer.intake import Intake
from celery_batches_notify.results import ResultReader
from celery_batches_notify.store.enrolments import Adder
from celery_batches_notify.store.follow import Follow, wait_for_event


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
        keep_calls: Keep each member's call in the store until it has succeeded, so that it can be sent again
            whatever the broker lost; `batches_keep_calls` if not given.
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
        keep_calls: bool | None = None,
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
            keep_calls=keep_calls,
        )
        if autoflush is not None and autoflush < 1:
            raise ConfigurationError(f"autoflush: give a number of calls from 1 on, not {autoflush!r}")
        if parent is not None and not isinstance(parent, Batch):
            raise explain_parent(parent)
        self.description, self.tags = declaration.description, declaration.tags
        self._declaration = declaration
        enrolment = Enrolment(
            engine,
            secrets.token_urlsafe(16),
            "owner",
            declaration=declaration,
            parent=parent._enrolment if parent is not None else None,
        )
        self._begin(engine, enrolment, Intake(engine, enrolment, seals=not keep_open, autoflush=autoflush))

    def _begin(self, engine: Engine, enrolment: Enrolment, intake: Intake) -> None:
        self.bid = enrolment.bid
        self._engine = engine
        self._enrolment = enrolment
        self._intake = intake

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
        """Iterate over the stored batches, newest first: those with this tag, those in this state.

        Raises:
            InvalidState: No batch can be in this state.
        """
        engine = find_engine(app)
        wanted = check_state(state) if state is not None else None
        return (
            cls._stored_one(engine, status)
            for _, status in engine.store.list_batches()
            if (tag is None or tag in status.tags) and (wanted is None or status.state == wanted)
        )

    @classmethod
    def _stored_one(cls, engine: Engine, status: BatchStatus, adder: Adder = "other") -> Batch:
        batch = cls.__new__(cls)
        batch.description, batch.tags = status.description, status.tags
        enrolment = Enrolment(engine, status.bid, adder)
        batch._begin(engine, enrolment, Intake(engine, enrolment, seals=False))
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
                `only_if={"failures": 1}`, rules that must hold or else it is skipped, and
                `give_up_after`, how long after the event it gets its last attempt.

        Raises:
            InvalidCallback: The event, the target or an option cannot be used.
            ConfigurationError: The notifier's options do not make a notifier.
            BatchSealed: The batch is stored already.
        """
        if self._enrolment.is_stored:
            raise BatchSealed(
                f"batch {self.bid} is stored already: declare its callbacks before its first call"
            )
        self._declaration.add_callback(event, target, options)
        return self

    # -- adding ---------------------------------------------------------------------------------

    def __enter__(self) -> Batch:
        self._intake.open_block()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._intake.end_block()
        else:
            self._intake.drop_block()

    def __aenter__(self) -> NoReturn:
        raise InvalidCall(
            "a batch has no `async with`: write a plain `with batch:`, in a coroutine too; it collects calls "
            "across an `await`, and its end waits for the store and the broker"
        )

    async def __aexit__(self, *_: object) -> None:
        """Only there so that Python asks for `__aenter__`, which explains itself."""

    def add(self, *signatures: Signature[Any]) -> list[AsyncResult[Any]]:
        """Add calls, all or none; return their results. While the batch's block is open, they join it.

        Else this submits and seals at once; while a `map` is under way or interrupted, its end seals.

        Raises:
            BatchSealed: The batch was sealed before, also by an earlier `add`.
            EnqueueError: The broker refused some; `resume()` finishes.
            InvalidCall: One of them is not a signature.
            NotAMember: A signature belongs to another app.
        """
        check_signatures(signatures)
        return self._intake.add(signatures)

    def map(self, task: Any, iterable: Iterable[Any]) -> int:
        """Call `task` once per item, streamed in chunks of 1,000; return how many. Outside a block it seals.

        An iterable that raises leaves the batch open, with the chunks that were sent until then.

        Raises:
            BatchSealed: The batch was sealed before, or is while the iterable is read.
            EnqueueError: The broker refused some; `resume()` goes on with the iterable.
            InvalidCall: `task` is neither a task nor a signature.
            NotAMember: The task belongs to another app.
        """
        return self.starmap(task, ((item,) for item in iterable))

    def starmap(self, task: Any, iterable: Iterable[Sequence[Any]]) -> int:
        """Call `task` once per item with the item as its arguments; else as `map`."""
        check_task(task)
        return self._intake.starmap(task, iterable)

    def seal(self) -> None:
        """Declare that all members are there; from here on events fire. Safe to repeat.

        Raises:
            BatchSealed: The batch's block is open, or calls of this object were not sent, or the batch was
                abandoned: nothing came from its producer for `batches_abandon_after`, so a worker sealed it.
        """
        self._intake.seal()

    def resume(self) -> None:
        """After an `EnqueueError` or `StoreUnavailable`, send the rest under the same ids, then seal.

        Unknown messages are sent too: one that had arrived after all is counted once. A `map` that was
        interrupted goes on with its iterable. If an iterable or an `autoflush` block raised, some calls were
        never made: then the batch stays open for them, until another block ends or somebody calls `seal()`.
        If nothing was begun, because the block raised, nothing happens.

        Raises:
            EnqueueError: The broker refused again.
            BatchSealed: It came too late: the batch was abandoned.
        """
        self._intake.resume()

    # -- reading --------------------------------------------------------------------------------

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


def current_batch(app: Celery | None = None) -> Batch | None:
    """Return the batch of the task that is running here, to add to it; None elsewhere, in callbacks too."""
    engine = find_engine(app)
    member = current_member(engine.app)
    if member is None:
        return None
    return Batch._stored_one(engine, engine.store.read_status(member.bid), member)
