"""What users hold: a batch, and the batch that a running task belongs to."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, NoReturn

from celery import Celery, Signature
from celery.result import AsyncResult

from celery_batches_notify.delivery.callbacks import Target
from celery_batches_notify.engine import Engine, find_engine
from celery_batches_notify.errors import BatchSealed, ConfigurationError, InvalidCall
from celery_batches_notify.messages.arguments import check_signatures, check_task, explain_parent
from celery_batches_notify.messages.headers import current_member
from celery_batches_notify.model import BatchStatus, check_bid, check_state
from celery_batches_notify.producer.declaration import Declaration
from celery_batches_notify.producer.enrolment import Enrolment
from celery_batches_notify.producer.intake import Intake
from celery_batches_notify.store.enrolments import Adder
from celery_batches_notify.store.parsing import Outline
from celery_batches_notify.stored_batch import StoredBatch


class Batch(StoredBatch):
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
        parents = parent._enrolment if parent is not None else None
        enrolment = Enrolment(
            engine, secrets.token_urlsafe(16), "owner", declaration=declaration, parent=parents
        )
        intake = Intake(engine, enrolment, seals=not keep_open, autoflush=autoflush)
        super().__init__(engine, enrolment, intake, declaration.description, declaration.tags)
        self._declaration = declaration

    @classmethod
    def get(cls, bid: str, *, app: Celery | None = None) -> Batch:
        """Return the stored batch with this id.

        Raises:
            NoSuchBatch: It never was, was deleted, or has expired.
            InvalidBid: The id is malformed.
        """
        engine = find_engine(app)
        return FoundBatch(engine, engine.store.read_status(check_bid(bid)))

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
            FoundBatch(engine, outline)
            for outline in engine.store.list_outlines(states=wanted is not None)
            if (tag is None or tag in outline.tags) and (wanted is None or outline.state == wanted)
        )

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


class FoundBatch(Batch):
    """A batch that was found in the store: it takes more calls, and the end of its block does not seal it."""

    def __init__(self, engine: Engine, found: BatchStatus | Outline, adder: Adder = "other") -> None:
        enrolment = Enrolment(engine, found.bid, adder)
        intake = Intake(engine, enrolment, seals=False)
        StoredBatch.__init__(self, engine, enrolment, intake, found.description, found.tags)


def current_batch(app: Celery | None = None) -> Batch | None:
    """Return the batch of the task that is running here, to add to it; None elsewhere, in callbacks too."""
    engine = find_engine(app)
    member = current_member(engine.app)
    if member is None:
        return None
    return FoundBatch(engine, engine.store.read_status(member.bid), member)
