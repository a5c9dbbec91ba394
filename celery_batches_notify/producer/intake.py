"""Takes calls into a batch by a block, `add` or `map`, from any number of threads, and resumes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from weakref import ref

from celery import Signature
from celery.result import AsyncResult

from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import BatchesError, BatchSealed, InvalidCall, NotAMember, WouldDeadlock
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.messages.block import Call, Frame, collecting, open_frames
from celery_batches_notify.messages.other_packages import release_locks
from celery_batches_notify.operations import discard_batch
from celery_batches_notify.producer import chunk as chunks
from celery_batches_notify.producer.enrolment import Enrolment
from celery_batches_notify.producer.on_commit import OnCommit, refuse_on_commit_in_blocks

logger = logging.getLogger(__name__)


class Intake:
    """Takes the calls of one batch in, and decides when the batch is whole and can be sealed.

    Args:
        engine: The app's engine.
        enrolment: Takes the calls to the store and the broker.
        seals: Whether the end of a block, an `add` or a `map` seals the batch.
        autoflush: A block publishes its calls as soon as so many wait; None: at its end.
        on_commit: Runs a function when a transaction commits, because the end of a block waits for that.
    """

    def __init__(
        self,
        engine: Engine,
        enrolment: Enrolment,
        *,
        seals: bool,
        autoflush: int | None = None,
        on_commit: OnCommit | None = None,
    ) -> None:
        self.on_commit = on_commit
        self._engine = engine
        self._bid = enrolment.bid
        self._enrolment = enrolment
        self._lock = enrolment.lock
        self._seals = seals
        self._autoflush = autoflush
        self._block: Frame | None = None
        self._sealing: Callable[[], object] = lambda: None  # returns what will seal it at a commit
        self._was_stored = False
        self._unread: list[tuple[Any, Iterator[Sequence[Any]]]] = []  # interrupted maps
        self._reading = 0  # how many maps are under way
        self._faults = 0  # how many blocks and iterables raised, so that calls were never made
        self._forgiven = 0  # how many of them a later, complete block or call made up for

    @property
    def is_open_here(self) -> bool:
        """Whether the batch's block is open in this context."""
        return any(frame.owner is self._enrolment for frame in open_frames())

    def open_block(self) -> None:
        """Begin a block. Raises `BatchSealed`, and `WouldDeadlock` if the batch's block is open already."""
        self._enrolment.adopt()
        refuse_on_commit_in_blocks(self._enrolment.app)
        with self._lock:
            self._refuse_if_closed()  # in the lock, because a seal in between would refuse the calls
            if self._block is not None:
                raise WouldDeadlock(
                    f"batch {self._bid}: its block is open already; use the inner calls directly"
                )
            self._was_stored = self._enrolment.is_stored
            self._block = block = Frame(
                self._enrolment.app, self._enrolment, limit=self._autoflush, flush=self._flush
            )
        block.enter()

    def _flush(self, block: Frame) -> None:
        """Submit the calls that wait in the block, unless its end, in another thread, was faster."""
        with self._lock:
            if calls := block.take():
                self._enrolment.submit(calls)

    def end_block(self) -> None:
        """Submit the calls of the block, and seal. Works in any context. Raises as `submit` does."""
        if self._is_fork:
            return
        with self._lock:
            block, self._block = self._block, None
            calls = block.close() if block else ()
            self._when_committed(lambda: self._end_block(calls), seals=self._seals)

    def _when_committed(self, do: Callable[[], None], *, seals: bool) -> None:
        if self.on_commit is None:
            do()
            return
        if seals:
            self._sealing = ref(do)  # gone with a rollback, because Django forgets the function
        self.on_commit(do)  # safety: after-commit

    def _end_block(self, calls: Sequence[Call]) -> None:
        with self._lock:
            self._forgiven = self._faults
            self._raise_eager_error()
            self._submit_last(calls, self._faults)
            if self._seals and self._is_quiet and not self._enrolment.has_members:
                BatchLog(logger, bid=self._bid).warning(
                    "sealed without members, so it is a success at once: its block collected no calls "
                    "(not those of other threads and processes, of apply() and in outside_batch())"
                )
            self._seal_if_whole()

    @property
    def needs_block(self) -> bool:
        """Whether calls must be made in a block, because they wait for a commit, and none is open."""
        return self.on_commit is not None and self._block is None

    def drop_block(self) -> None:
        """Drop the calls of a block that raised.

        Calls that `autoflush` has published stay, and so does their batch, which remains open.
        """
        if self._is_fork:  # safety: forks-block
            return
        with self._lock:
            block, self._block = self._block, None
            if block is not None:
                release_locks(self._enrolment.app, block.close())
            self._enrolment.take_eager_error()
            if self._enrolment.has_published or self._enrolment.has_unsent:
                self._faults += bool(self._autoflush)
            elif self._enrolment.is_stored and not self._was_stored:  # by an eager call, or by a child
                self._discard()  # safety: raised-block-discarded

    def _discard(self) -> None:
        bid = self._bid
        try:
            discard_batch(self._engine, bid)
        except BatchesError as exc:  # the caller gets the block's own error
            BatchLog(logger, bid=bid).warning("its block raised, and it could not be removed: %s", exc)
        else:
            self._enrolment.forget()

    def add(self, signatures: Sequence[Signature[Any]]) -> list[AsyncResult[Any]]:
        """Add calls, all or none; return their results. Raises as `Batch.add` does."""
        self._refuse_if_closed()
        self._enrolment.adopt()
        faults = self._faults
        for signature in signatures:
            self._refuse_if_foreign(signature)
        with collecting(self._enrolment.app, self._enrolment) as calls:
            results = [signature.apply_async() for signature in signatures]
        with self._lock:
            if not self._join_block(calls):  # safety: add-own-batch
                self._refuse_if_closed()
                self._raise_eager_error()
                self._submit_last(calls, faults)
                self._forgiven = max(self._forgiven, faults)
                self._seal_if_whole()
        return results

    def starmap(self, task: Any, iterable: Iterable[Sequence[Any]]) -> int:
        """Call `task` once per item, with the item as its arguments; return the number. Raises as `map`."""
        self._refuse_if_closed()
        self._enrolment.adopt()
        self._refuse_if_foreign(task)
        faults = self._faults
        with self._being_read():
            count = self._read_all(task, iter(iterable))
        self._forgiven = max(self._forgiven, faults)
        self._seal_if_whole()
        return count

    def resume(self) -> None:
        """Submit refused calls again, go on with interrupted maps, then seal if every call was made.

        Does nothing if the only block raised, because sealing an empty batch would make it a success.
        """
        if not self._enrolment.has_begun and not self._unread:  # safety: resume-nothing
            return
        self._enrolment.submit(seals=self._seals and self._is_whole and self._is_quiet)
        with self._being_read():
            while (unread := self._pop_unread()) is not None:
                self._read_all(*unread)
        self._seal_if_whole()

    def seal(self) -> None:
        """Seal the batch. Raises `BatchSealed` if its block is open or calls were not sent."""
        with self._lock:
            if self._block is not None:
                raise BatchSealed(
                    f"batch {self._bid}: its block is open, and its calls leave at its end: call seal() then"
                )
            if self._unread:
                raise BatchSealed(
                    f"batch {self._bid} has an interrupted map(): call resume(), which goes on with its "
                    "iterable, and then seals"
                )
            self._enrolment.adopt()
            self._when_committed(self._enrolment.seal, seals=True)

    def _read_all(self, task: Any, items: Iterator[Sequence[Any]]) -> int:
        count = 0
        while chunk := self._read_chunk(task, items):
            number, calls = chunk
            count += number
            try:
                self._raise_eager_error()
                if not self._join_block(calls):
                    self._enrolment.submit(calls)
            except BatchSealed:
                raise
            except BaseException:
                self._unread.append((task, items))  # safety: unread-map
                raise
        return count

    @contextmanager
    def _being_read(self) -> Iterator[None]:
        """Let only `seal()` seal the batch meanwhile, because more calls are coming."""
        with self._lock:
            self._reading += 1  # safety: reading-open
        try:
            yield
        finally:
            with self._lock:
                self._reading -= 1

    def _read_chunk(self, task: Any, items: Iterator[Sequence[Any]]) -> tuple[int, list[Call]] | None:
        """Make the calls of the next items, or none if one of them raises; then the batch stays open."""
        try:
            chunk = list(islice(items, chunks.CHUNK))
            with collecting(self._enrolment.app, self._enrolment) as calls:
                self._engine.sender.calls.starmap(task, chunk)
        except BaseException:
            with self._lock:
                self._faults += 1
            raise
        return (len(chunk), calls) if chunk else None

    def _pop_unread(self) -> tuple[Any, Iterator[Sequence[Any]]] | None:
        with self._lock:
            return self._unread.pop(0) if self._unread else None

    def _join_block(self, calls: Sequence[Call]) -> bool:
        """Add calls to the batch's open block, in any thread; return whether it has one."""
        block = self._block
        return block is not None and block.collect(calls)

    def _seal_if_whole(self) -> None:
        with self._lock:
            if not self._seals or not self._is_quiet:
                return
            if not self._is_whole:  # safety: whole-seal
                BatchLog(logger, bid=self._bid).warning(
                    "stays open, because a block or an iterable raised: make the missing calls in another "
                    "block, which seals it at its end, or call seal()"
                )
                return
            self._enrolment.seal()

    def _submit_last(self, calls: Sequence[Call], forgiven: int) -> None:
        """Submit calls: the last ones, unless a map is unfinished or more than `forgiven` faults happened."""
        # safety: unread-not-last
        is_last = not self._unread and not self._reading and self._faults <= forgiven
        self._enrolment.submit(calls, is_last=is_last, seals=self._seals and is_last)

    @property
    def _is_quiet(self) -> bool:
        """Whether all blocks are closed and all iterables read."""
        return self._block is None and not self._reading

    @property
    def _is_whole(self) -> bool:
        """Whether every block and iterable has made all its calls."""
        return self._faults <= self._forgiven and not self._unread

    def _raise_eager_error(self) -> None:
        """Raise the error that kept an eager call from being enrolled; the call has run uncounted."""
        if (error := self._enrolment.take_eager_error()) is not None:
            with self._lock:  # safety: eager-fault-counted
                self._faults += 1
            raise error

    @property
    def _is_fork(self) -> bool:
        """Whether a block is open in the process that forked this one: it ends there, with its calls."""
        block = self._block
        return block is not None and block.is_copy

    def _refuse_if_closed(self) -> None:
        if self._is_fork:  # safety: forks-batch
            raise InvalidCall(
                f"batch {self._bid}: its block is open in the process that forked this one, which sends its "
                "calls: make them there, or give this process the bid of a batch with keep_open=True"
            )
        if self._enrolment.is_sealed or self._sealing() is not None:  # safety: sealing-at-commit
            raise BatchSealed(
                f"batch {self._bid} takes no more calls: `add`, `map` and the end of a block seal it; "
                "put all calls into one block, or create it with keep_open=True and call seal() at the end"
            )

    def _refuse_if_foreign(self, task: Any) -> None:
        if getattr(task, "app", self._enrolment.app) != self._enrolment.app:
            raise NotAMember(
                f"{getattr(task, 'name', None) or task!r} belongs to {task.app!r}, but the batch takes calls "
                f"of {self._enrolment.app!r}: give the batch app=, or use the task of its app"
            )
