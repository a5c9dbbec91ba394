"""The producer's side: calls are collected, enrolled as members, and only then published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celery import Celery

from celery_batches_notify.errors import BatchesError, EnqueueError
from celery_batches_notify.model import Membership
from celery_batches_notify.store.enrolments import Adder
from celery_batches_notify.store.store import Store
from celery_batches_notify.tracking.headers import write_header
from celery_batches_notify.tracking.marks import carries_more, mark_message
from celery_batches_notify.tracking.sender import Call, Sender

CHUNK = 1000


@dataclass(slots=True, kw_only=True)
class Chunk:
    """Calls that are enrolled, published and confirmed together.

    Attributes:
        calls: The calls.
        is_last: Whether the batch has all its members with these.
        first: Where they stand, or were last tried: their reply may have been lost.
        confirmed: Whether the store knows that their messages have left.
    """

    calls: Sequence[Call]
    is_last: bool
    first: int | None = None
    confirmed: bool = False


class Enrolment:
    """The calls of one batch on their way to the broker, resumable under the same ids.

    Members are enrolled before their messages leave, and confirmed after: where a producer dies in between,
    the sweeper can tell. A publish that raised may have left nevertheless, so its member stays enrolled and
    `submit` sends it again under the same id: counted once, whatever happened.

    Args:
        app: The app whose calls these are.
        store: Where members are enrolled.
        sender: What publishes.
        bid: The batch.
        adder: Who adds the calls: the batch's owner, somebody else, or a running member.
        open_batch: Stores the batch if it is not stored yet.
        autoflush: Submit whenever so many calls wait, or None.
    """

    def __init__(
        self,
        app: Celery,
        store: Store,
        sender: Sender,
        bid: str,
        *,
        adder: Adder,
        open_batch: Callable[[], None],
        autoflush: int | None = None,
    ) -> None:
        self.app = app
        self._store = store
        self._sender = sender
        self.bid = bid
        self._adder = adder
        self._open_batch = open_batch
        self._autoflush = autoflush
        self._collected: list[Call] = []
        self._leaving: list[Chunk] = []
        self._next = 0
        self._is_canvas = False
        self._eager: dict[str, Membership] = {}
        self.unconfirmed: list[int] = []  # where the chunks stand that have left, but for the store's knowing
        self._eager_error: BatchesError | None = None

    @property
    def finished(self) -> bool:
        """Whether all that was submitted has left."""
        return not self._leaving

    def collect(self, call: Call) -> None:
        """Take a call; it leaves with the next `submit`."""
        self._collected.append(call)
        if self._autoflush and len(self._collected) >= self._autoflush:
            self.submit()

    def holds(self, task_id: str) -> bool:
        """Whether a call is collected and has not left."""
        return any(call.task_id == task_id for call in self._collected)

    def discard(self) -> None:
        """Forget what was collected."""
        self._collected = []

    @property
    def is_members(self) -> bool:
        """Whether a running member adds these calls to its own batch."""
        return isinstance(self._adder, Membership)

    def enrol_child(self, bid: str) -> int:
        """Enrol a batch as a member of this one; return its index. Safe to repeat.

        It is to be confirmed once it is stored.

        Raises:
            BatchSealed: This batch takes no more members.
        """
        self._open_batch()
        return self._store.enrol_members(self.bid, self._next, [bid], self._adder, children=True)

    def confirm_child(self, index: int) -> None:
        """Note that a child that was enrolled is stored. Raises `BatchSealed` as `submit` does."""
        self._store.confirm_members(self.bid, [index], self._adder)

    def enrol_eager(self, task_id: str) -> Membership | None:
        """Enrol a call that Celery runs right here; it would swallow an error, so that waits for `submit`."""
        if task_id in self._eager:  # a retry
            return self._eager[task_id]
        try:
            self._open_batch()
            index = self._store.enrol_members(self.bid, self._next, [task_id], self._adder)
        except BatchesError as exc:
            self._eager_error = exc
            return None
        self._next = index + 1
        self.unconfirmed.append(index)
        self._eager[task_id] = Membership(bid=self.bid, index=index, task_id=task_id)
        return self._eager[task_id]

    def submit(self, *, is_last: bool = False, seals: bool = False) -> None:
        """Enrol what was collected, then publish it and what an earlier `submit` left, chunk by chunk.

        Args:
            is_last: Whether the batch has all its members then.
            seals: Whether the caller seals next, and confirms what is `unconfirmed` with the same script.

        Raises:
            EnqueueError: The broker refused; the rest waits here for the next `submit`.
            BatchSealed: The batch takes no more members, or was taken for abandoned.
        """
        if self._eager_error is not None:
            raise self._eager_error
        starts = range(0, len(self._collected), CHUNK)
        chunks = [Chunk(calls=self._collected[at : at + CHUNK], is_last=False) for at in starts]
        if chunks:
            chunks[-1].is_last = is_last
        self._leaving += chunks
        self._collected = []
        self._open_batch()
        leaving = [chunk for chunk in self._leaving if not chunk.confirmed]
        for chunk in leaving:  # also those of an earlier `submit`: they may have been given up since
            self._enrol(chunk)
        for chunk in leaving:
            self._publish(chunk)
            if not (seals and chunk is leaving[-1]):
                self._store.confirm_members(self.bid, [chunk.first or 0], self._adder)
                chunk.confirmed = True
            else:
                self.unconfirmed.append(chunk.first or 0)
        if self.unconfirmed and not seals:
            self._store.confirm_members(self.bid, self.unconfirmed, self._adder)
            self.unconfirmed.clear()
        self._leaving = []

    def _enrol(self, chunk: Chunk) -> None:
        def note_place(first: int) -> None:
            chunk.first = first

        place = self._next if chunk.first is None else chunk.first
        ids = [call.task_id for call in chunk.calls]
        self._note_canvas(chunk.calls)
        first = self._store.enrol_members(
            self.bid, place, ids, self._adder, last=chunk.is_last, note_place=note_place
        )
        self._next = max(self._next, first + len(ids))
        for index, call in enumerate(chunk.calls, first):
            call.index = index

    def _note_canvas(self, calls: Sequence[Call]) -> None:
        """Where more members come of some, `reconcile` must not take a result for the end of it all."""
        if not self._is_canvas and any(carries_more(call.name, call.message) for call in calls):
            self._store.note_canvas(self.bid)
            self._is_canvas = True

    def _publish(self, chunk: Chunk) -> None:
        """The narrow place where calls become messages."""
        calls = [call for call in chunk.calls if not call.sent]
        if not calls:
            return
        try:
            with self.app.producer_or_acquire() as producer:
                for call in calls:
                    member = Membership(bid=self.bid, index=call.index or 0, task_id=call.task_id)
                    write_header(call.message.headers, member)
                    message = mark_message(call.name, call.message, member)
                    call.sent = None
                    self._sender.send(producer, call.name, message, **call.options)
                    call.sent = True
        except Exception as exc:
            raise self._refused() from exc

    def _refused(self) -> EnqueueError:
        def ids(sent: bool | None) -> list[str]:
            return [call.task_id for chunk in self._leaving for call in chunk.calls if call.sent is sent]

        return EnqueueError(self.bid, sent=ids(True), unsent=ids(False), unknown=ids(None))
