"""Enrolling: calls become members in the store before their messages go to the broker."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import BatchesError, BatchSealed, InvalidCall
from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.block import Call, find_frame
from celery_batches_notify.messages.canvas import carries_more
from celery_batches_notify.messages.kept_messages import keep_message
from celery_batches_notify.messages.other_packages import release_locks
from celery_batches_notify.messages.templates import TemplateCall
from celery_batches_notify.operations import cancel_batch
from celery_batches_notify.producer.chunk import Chunk, explain_refusal, split_calls
from celery_batches_notify.producer.declaration import Declaration
from celery_batches_notify.producer.ways import publish_calls
from celery_batches_notify.store.enrolments import Abandoned, Adder


class Enrolment:
    """Takes the calls of one batch to the store and the broker, from any number of threads.

    Members are enrolled before their messages leave, and confirmed afterwards, so that the sweeper notices if
    the producer dies in between. A message whose publishing raised may have left nevertheless. So its member
    stays enrolled, and the next `submit` sends it again under the same id, which is counted once.

    Args:
        engine: The app's engine.
        bid: The batch.
        adder: The one who adds the calls: the batch's owner, somebody else, or a running member.
        declaration: The owner's declaration, stored before the first member; None for a stored batch.
        parent: The batch that this one becomes a member of.

    Attributes:
        lock: The thread that enrols, publishes or seals holds it.
        is_stored: Whether the batch is in the store.
        is_sealed: Whether this object has sealed the batch.
        has_begun: Whether somebody submitted calls or the seal, so that `resume` may have work to do.
        has_members: Whether this object enrolled a member.
        has_published: Whether a message may have left.
    """

    def __init__(
        self,
        engine: Engine,
        bid: str,
        adder: Adder,
        *,
        declaration: Declaration | None = None,
        parent: Enrolment | None = None,
    ) -> None:
        self.app = engine.app
        self.bid = bid
        self.lock = threading.RLock()
        self.is_stored = declaration is None
        self.is_sealed = False
        self.has_begun = False
        self.has_members = False
        self.has_published = False
        self._engine = engine
        self._store = engine.store
        self._adder = adder
        self._declaration = declaration
        self._parent = parent
        self._leaving: list[Chunk] = []
        self._refusal: BatchSealed | None = None  # kept while the broker's error comes first
        self._unconfirmed: list[int] = []  # first indexes of published chunks
        self._next = 0
        self._is_canvas = False
        self._eager: dict[str, Membership] = {}
        self._eager_error: BatchesError | None = None

    @property
    def is_members(self) -> bool:
        """Whether a running member adds these calls to its own batch."""
        return isinstance(self._adder, Membership)

    @property
    def has_unsent(self) -> bool:
        """Whether calls that the store or the broker refused wait here."""
        return bool(self._leaving)

    @cached_property
    def keeps_calls(self) -> bool:
        """Whether the batch keeps its members' calls, so that they can be sent again."""
        declaration = self._declaration
        return self._store.keeps_calls(self.bid) if declaration is None else declaration.keep_calls

    def prepare(self, call: Call) -> None:
        """Pack the call for the store if the batch keeps calls. Raises `InvalidCall` if it cannot be kept.

        Calls for a batch that is stored already are packed later, because a call must not wait for the store.
        """
        if self._declaration is not None and self.keeps_calls:
            call.kept = keep_message(call)

    def adopt(self) -> None:
        """Become a child of the running member's batch if its block is open in this context."""
        frame = find_frame(self.app)
        owner = frame.owner if frame is not None and not self.is_stored else None
        if self._parent is None and isinstance(owner, Enrolment) and owner.is_members:
            self._parent = owner

    def open(self) -> None:
        """Store the batch if it is not stored yet, as a member of its parent."""
        with self.lock:
            if self.is_stored or self._declaration is None:
                return
            if self._parent is None:
                self._declaration.store(self.bid, None)
            else:
                index = self._parent.enrol_child(self.bid)
                self._declaration.store(self.bid, (self._parent.bid, index))
                # A cancel of the parent reaches stored children only; `confirm_child` reports an earlier one.
                if self._parent.confirm_child(index):  # safety: cancelled-child
                    cancel_batch(self._engine, self.bid, terminate=False)
            self.is_stored = True

    def enrol_child(self, bid: str) -> int:
        """Enrol a batch as a member of this one; return its index. Safe to repeat.

        The caller stores the child, then calls `confirm_child`.

        Raises:
            BatchSealed: This batch is sealed.
        """
        with self.lock:
            self.open()
            return self._add_members([bid], self._next, children=True)

    def confirm_child(self, index: int) -> bool:
        """Confirm that an enrolled child is stored; return whether this batch, its parent, is cancelled.

        Raises:
            BatchSealed: As `submit` does.
        """
        return self._store.confirm_members(self.bid, [index], self._adder)

    def enrol_eager(self, task_id: str) -> Membership | None:
        """Enrol a call that Celery runs eagerly; return None and keep the error if that fails."""
        with self.lock:
            if task_id in self._eager:  # a retry
                return self._eager[task_id]
            try:
                self.open()
                index = self._add_members([task_id], self._next)
            except BatchesError as exc:
                self._eager_error = exc
                return None
            self._unconfirmed.append(index)
            self._eager[task_id] = Membership(bid=self.bid, index=index, task_id=task_id)
            return self._eager[task_id]

    def take_eager_error(self) -> BatchesError | None:
        """Return the error that kept an eager call from being enrolled, and forget it."""
        error, self._eager_error = self._eager_error, None
        return error

    def forget(self) -> None:
        """Start afresh, because the batch was removed from the store."""
        self.is_stored = self.has_begun = self.has_members = False
        self._next = 0
        self._eager.clear()
        self._unconfirmed.clear()

    def submit(self, calls: Sequence[Call] = (), *, is_last: bool = False, seals: bool = False) -> None:
        """Enrol calls, then publish them and those that an earlier `submit` left, chunk by chunk.

        Args:
            calls: The calls.
            is_last: Whether these are the last members of the batch.
            seals: Whether the caller seals next, so that the seal confirms the last chunk in the same script.

        Raises:
            EnqueueError: The broker refused; the rest waits here for the next `submit`.
            BatchSealed: The batch is sealed, or a worker sealed it because it seemed abandoned.
        """
        with self.lock:
            self.has_begun = True
            chunks = split_calls(calls, is_last=is_last)
            self._leaving += chunks
            if chunks and self.keeps_calls:
                self._make_room(chunks)
            self.open()
            leaving = [chunk for chunk in self._leaving if not chunk.confirmed]
            self._refusal = self._enrol_all(leaving) or self._refusal  # safety: refusal-kept
            self._publish_all(leaving, seals=seals and self._refusal is None)
            self._leaving = []
            refusal, self._refusal = self._refusal, None
            if refusal is not None:
                raise refusal

    def seal(self) -> None:
        """Seal the batch, and publish the callbacks that become due. Safe to repeat.

        Raises:
            BatchSealed: Calls were not sent, or the batch was abandoned.
        """
        with self.lock:
            if self._leaving:
                raise BatchSealed(
                    f"batch {self.bid} has calls that were not sent: call resume(), which seals too"
                )
            self.has_begun = True
            self.open()
            sealed = self._store.seal_batch(self.bid, self._unconfirmed)
            self._unconfirmed.clear()
            self.is_sealed = True
        self._engine.publisher.publish(self.bid, sealed)

    def _enrol_all(self, chunks: list[Chunk]) -> BatchSealed | None:
        """Enrol these chunks; return an error if somebody sealed the batch in between.

        All chunks are enrolled before the first is published, also those of an earlier `submit`, because a
        worker may have written these off. Chunks that were enrolled before the seal count as members, so they
        are published; the others are dropped.
        """
        for number, chunk in enumerate(chunks):
            try:
                self._enrol(chunk)
            except Abandoned:
                raise
            except BatchSealed as exc:
                # safety: enrolled-then-sealed
                refused = list(chain.from_iterable(chunk.calls for chunk in chunks[number:]))
                release_locks(self.app, refused)
                del chunks[number:]
                self._leaving = chunks
                members = sum(len(each.calls) for each in chunks)
                return BatchSealed(
                    f"{exc}; {members} calls are members and were sent, {len(refused)} were not made"
                )
        return None

    def _make_room(self, chunks: Sequence[Chunk]) -> None:
        """Pack the calls that are not packed yet; raise `StoreUnavailable` if the store is too full."""
        try:
            for call in chain.from_iterable(chunk.calls for chunk in chunks):
                call.kept = call.kept or keep_message(call)
        except InvalidCall:
            del self._leaving[-len(chunks) :]  # `resume` would raise the same error again
            raise
        self._store.check_room()

    def _enrol(self, chunk: Chunk) -> None:
        def note_place(first: int) -> None:
            chunk.first = first

        place = self._next if chunk.first is None else chunk.first
        ids = [call.task_id for call in chunk.calls]
        self._note_canvas(chunk.calls)
        first = self._add_members(ids, place, last=chunk.is_last, note_place=note_place)
        for index, call in enumerate(chunk.calls, first):
            call.index = index
        if kept := [call.kept for call in chunk.calls if call.kept is not None]:
            self._store.keep_calls(self.bid, first, kept)

    def _add_members(self, ids: Sequence[str], place: int, **options: Any) -> int:
        """Enrol these ids at `place`, or behind what others enrolled there; return the first index."""
        first = self._store.enrol_members(self.bid, place, ids, self._adder, **options)
        self.has_members = True
        self._next = max(self._next, first + len(ids))
        return first

    def _note_canvas(self, calls: Sequence[Call]) -> None:
        """Note in the store that calls have successors, so that `reconcile` awaits more than a result."""
        if not self._is_canvas and any(map(_carries_more, calls)):
            self._store.note_canvas(self.bid)
            self._is_canvas = True

    def _publish_all(self, chunks: Sequence[Chunk], *, seals: bool) -> None:
        for chunk in chunks:
            self._publish(chunk)
            if seals and chunk is chunks[-1]:
                self._unconfirmed.append(chunk.first or 0)
            else:
                self._store.confirm_members(self.bid, [chunk.first or 0], self._adder)
                chunk.confirmed = True
        if self._unconfirmed and not seals:
            self._store.confirm_members(self.bid, self._unconfirmed, self._adder)
            self._unconfirmed.clear()

    def _publish(self, chunk: Chunk) -> None:
        """Send the calls of a chunk to the broker."""
        calls = [call for call in chunk.calls if not call.sent]
        if not calls:
            return
        self.has_published = True
        try:
            publish_calls(self.app, self._engine.sender, self.bid, calls)
        except SoftTimeLimitExceeded:  # safety: soft-limit-is-the-tasks
            raise
        except Exception as exc:
            raise explain_refusal(self.app, self.bid, self._leaving, exc) from exc


def _carries_more(call: Call) -> bool:
    return not isinstance(call, TemplateCall) and carries_more(call.name, call.message)
