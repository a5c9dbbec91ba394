"""What users hold: a batch, and the batch that a running task belongs to."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from celery import Celery, Signature
from celery.result import AsyncResult

from celery_batches_notify.checks import check_bid, check_state
from celery_batches_notify.delivery.callbacks import Target
from celery_batches_notify.engine import Engine, find_engine
from celery_batches_notify.errors import BatchSealed, ConfigurationError, InvalidCall
from celery_batches_notify.messages.arguments import check_signatures, check_task, explain_parent
from celery_batches_notify.messages.headers import current_member
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.producer.declaration import Declaration
from celery_batches_notify.producer.enrolment import Enrolment
from celery_batches_notify.producer.intake import Intake
from celery_batches_notify.producer.on_commit import OnCommit, check_on_commit
from celery_batches_notify.store.enrolments import Adder
from celery_batches_notify.store.outlines import Outline
from celery_batches_notify.stored_batch import StoredBatch

if TYPE_CHECKING:
    from celery_batches_notify.typing import (
        BuiltInChannel,
        EventName,
        PlainEventName,
        StateName,
        TaskOfOne,
        TimedEventName,
    )

T = TypeVar("T")


class Batch(StoredBatch):
    """A set of task calls that are watched together.

    Args:
        description: A text for lists and messages, at most 1,000 characters.
        tags: Up to 16 words to find the batch by.
        callback_queue: The queue of the callbacks that do not name one.
        expires: How long the record is kept after the batch last moved: seconds or a `timedelta`.
        linger: How long the record is kept after the batch succeeded, at least 30 s.
        autoflush: Publish the block's calls whenever so many wait. The block is then no longer all or none.
        keep_open: Whether others may add members until `seal()`.
        keep_calls: Whether the store keeps each member's call until it has succeeded, so that it can be sent
            again after the broker lost it; `batches_keep_calls` if not given.
        parent: The batch that this one is a member of. A batch that is opened inside `with current_batch():`
            becomes a child of that batch by itself.
        on_commit: Django's `transaction.on_commit`, or another function that is given a function to run at
            the commit: calls leave then, and never if the transaction is rolled back. A child takes its
            parent's.
        app: The Celery app; the current one if not given.

    Raises:
        ConfigurationError: The app lacks `Batches`, or a setting or argument is wrong.
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
        on_commit: OnCommit | None = None,
        app: Celery[Any] | None = None,
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
            raise ConfigurationError(f"autoflush must be a number of calls from 1 on, got {autoflush!r}")
        if parent is not None and not isinstance(parent, Batch):
            raise explain_parent(parent)
        if parent is not None and parent.app is not engine.app:  # safety: parents-app
            raise ConfigurationError(
                f"parent is a batch of {parent.app!r}, but this one is of {engine.app!r}, and would report "
                "to its own store: give both the same app="
            )
        if on_commit is not None:
            check_on_commit(on_commit, autoflush)
        elif parent is not None:
            on_commit = parent._intake.on_commit
        bid, above = secrets.token_urlsafe(16), parent._enrolment if parent is not None else None
        enrolment = Enrolment(engine, bid, "owner", declaration=declaration, parent=above)
        intake = Intake(engine, enrolment, seals=not keep_open, autoflush=autoflush, on_commit=on_commit)
        super().__init__(engine, enrolment, intake, declaration.description, declaration.tags)
        self._declaration = declaration

    @classmethod
    def get(cls, bid: str, *, app: Celery[Any] | None = None) -> Batch:
        """Return the stored batch with this id.

        Raises:
            NoSuchBatch: It never existed, was deleted, or has expired.
            InvalidBid: The id is malformed.
        """
        engine = find_engine(app)
        return FoundBatch(engine, engine.store.read_status(check_bid(bid)))

    @classmethod
    def all(
        cls, tag: str | None = None, state: StateName | None = None, *, app: Celery[Any] | None = None
    ) -> Iterator[Batch]:
        """Iterate over the stored batches, newest first: all of them, or those with this tag or state.

        Raises:
            InvalidState: This state does not exist.
        """
        engine = find_engine(app)
        wanted = check_state(state) if state is not None else None
        return (
            FoundBatch(engine, outline)
            for outline in engine.store.list_outlines(standings=wanted is not None)
            if tag is None or tag in outline.tags
            if wanted is None or outline.is_in(wanted)
        )

    # -- declaring ------------------------------------------------------------------------------

    @overload
    def on(self, event: PlainEventName, target: Target | BuiltInChannel, /, **options: Any) -> Batch: ...
    @overload
    def on(
        self, event: Literal["progress"], target: Target | BuiltInChannel, /, *, at: float, **options: Any
    ) -> Batch: ...
    @overload
    def on(
        self,
        event: TimedEventName,
        target: Target | BuiltInChannel,
        /,
        *,
        after: float | timedelta,
        **options: Any,
    ) -> Batch: ...
    def on(self, event: EventName, target: Target, /, **options: Any) -> Batch:
        """Declare a notification to send, or a task to call, when an event fires; return the batch.

        Args:
            event: `complete`, `success`, `death`, `finish`, `cancel`, `progress` (with `at=0.5`),
                `deadline` or `stall` (with `after=3600`).
            target: A notifier's class, registered name or profile, or a signature. A signature is called with
                the status (a dict) as its first argument, an immutable one (`.si()`) without it.
            options: The notifier's options, which override the configured ones. For any target also
                `only_if={"failures": 1}`, rules without which the callback is skipped, and
                `give_up_after`, how long after the event the callback gets its last attempt.

        Raises:
            InvalidCallback: The event, the target or an option cannot be used.
            ConfigurationError: The notifier refuses its options.
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
            "a batch has no `async with`: write a plain `with batch:` in a coroutine too; it collects calls "
            "across an `await`, and its end waits for the store and the broker"
        )

    async def __aexit__(self, *_: object) -> None:
        """Exist, so that Python calls `__aenter__`, which explains itself."""

    def add(self, *signatures: Signature[Any]) -> list[AsyncResult[Any]]:
        """Add calls, all or none; return their results. They join the batch's block if it is open.

        Otherwise they are published at once, and the batch is sealed unless a `map` is unfinished.

        Raises:
            BatchSealed: The batch is sealed already, perhaps by an earlier `add`.
            EnqueueError: The broker refused some of the calls; `resume()` sends them again.
            InvalidCall: An argument is not a signature.
            NotAMember: A signature belongs to another app.
        """
        check_signatures(signatures)
        with self if self._intake.needs_block else nullcontext():
            return self._intake.add(signatures)

    def map(self, task: TaskOfOne[T], iterable: Iterable[T]) -> int:
        """Call `task` once per item, in chunks of 1,000; return the number. Seals, except in a block.

        If the iterable raises, the batch stays open, with the chunks that were sent until then.

        Raises:
            BatchSealed: The batch is sealed already, or is sealed while the iterable is read.
            EnqueueError: The broker refused some of the calls; `resume()` goes on with the iterable.
            InvalidCall: `task` is neither a task nor a signature.
            NotAMember: The task belongs to another app.
        """
        return self.starmap(task, ((item,) for item in iterable))

    def starmap(self, task: Any, iterable: Iterable[Sequence[Any]]) -> int:
        """Call `task` once per item, with the item as its arguments. Otherwise like `map`."""
        check_task(task)
        with self if self._intake.needs_block else nullcontext():
            return self._intake.starmap(task, iterable)

    def seal(self) -> None:
        """Declare that the batch has all its members; from now on events fire. Safe to repeat.

        Raises:
            BatchSealed: The batch's block is open, or calls of this object were not sent, or a worker sealed
                the batch because its producer was silent for `batches_abandon_after`.
        """
        self._intake.seal()

    def resume(self) -> None:
        """After an `EnqueueError` or `StoreUnavailable`, send the rest under the same ids, then seal.

        Unknown messages are sent too; if one had arrived after all, it is counted once. An interrupted `map`
        goes on with its iterable. If an iterable or an `autoflush` block raised, some calls were never made:
        the batch stays open for them until another block ends or somebody calls `seal()`. Does nothing if
        the batch's only block raised.

        Raises:
            EnqueueError: The broker refused again.
            BatchSealed: It is too late, because a worker has sealed the batch as abandoned.
        """
        self._intake.resume()


class FoundBatch(Batch):
    """A batch that was found in the store. It takes more calls; the end of a block does not seal it."""

    def __init__(self, engine: Engine, found: BatchStatus | Outline, adder: Adder = "other") -> None:
        enrolment = Enrolment(engine, found.bid, adder)
        intake = Intake(engine, enrolment, seals=False)
        StoredBatch.__init__(self, engine, enrolment, intake, found.description, found.tags)


def current_batch(app: Celery[Any] | None = None) -> Batch | Any:
    """Return the batch of the running member, so that it can add to it; None elsewhere, also in callbacks.

    Type checkers take it for a batch, because members need no check for None.
    """
    engine = find_engine(app)
    member = current_member(engine.app)
    if member is None:
        return None
    return FoundBatch(engine, engine.store.read_status(member.bid), member)
