"""The open blocks of a context: frames that collect task calls until they close, and the calls' results."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.result import AsyncResult

from celery_batches_notify.errors import NotAMember, WouldDeadlock
from celery_batches_notify.messages.ids import new_ids
from celery_batches_notify.messages.other_packages import release_locks

if TYPE_CHECKING:
    from celery_batches_notify.membership import Membership

    Result = AsyncResult[Any]
else:
    Result = AsyncResult

IDS_AT_ONCE = 100

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """A task message that waits to be sent: the arguments of Celery's sender, and its place in the batch.

    Attributes:
        sent: Whether the broker took the message; None while that is unknown.
        kept: The packed call, if the batch keeps its calls.
        template: What it was made from if Celery did not make it.
    """

    task_id: str
    name: str
    message: Any
    options: dict[str, Any]
    index: int | None = None
    sent: bool | None = False
    kept: bytes | None = None
    template: Any = None


class Owner(Protocol):
    """The batch's side of a frame."""

    @property
    def is_members(self) -> bool:
        """Whether a running member adds these calls to its own batch."""
        ...

    def prepare(self, call: Call) -> None:
        """Make a call ready to be a member. Raises `InvalidCall` if it cannot be one."""
        ...

    def enrol_eager(self, task_id: str) -> Membership | None:
        """Enrol a call that is about to run in this process; None if the store did not answer."""
        ...


class Frame:
    """One open block: its app, its outer frame, and the calls made in it.

    Contexts are copied (asyncio, `copy_context`, `to_thread`), and generators suspend in the middle of a
    block. So several contexts, in several threads, may hold one frame, even after its end. A closed frame
    refuses calls, and the copy in a forked child is never open, because what it took would never leave.

    Args:
        app: The app whose calls it collects; if it is None, the calls of every app go out at once.
        owner: The batch that gets the calls, if any.
        limit: Call `flush` whenever this many calls wait, if it is set.
        flush: Takes them then.
    """

    def __init__(
        self,
        app: Celery | None,
        owner: Owner | None = None,
        *,
        limit: int | None = None,
        flush: Callable[[Frame], None] | None = None,
    ) -> None:
        self.app = app
        self.owner = owner
        self._pid = os.getpid()
        self._is_open = True
        self.templates: Any = None  # what calls are made from here
        self.chains: set[str] = set()  # the ids of the last tasks of chains that were called here
        self._ids: list[str] = []
        self._results: list[ref[BlockAwareResult]] = []  # those that their backend does not watch yet
        self._limit = limit
        self._flush = flush
        self._calls: list[Call] = []
        self._lock = threading.Lock()  # else a call could join a list that was already taken
        self.outer = next(open_frames(), None)

    @property
    def is_open(self) -> bool:
        """Whether it collects calls."""
        return self._is_open and not self.is_copy  # safety: forked-frame

    @property
    def is_copy(self) -> bool:
        """Whether this process is a fork of the one that opened the block, which ends there."""
        return self._pid != os.getpid()

    def enter(self) -> Frame:
        """Become the innermost frame of this context."""
        _current.set(self)
        return self

    def collect(self, calls: Sequence[Call]) -> bool:
        """Take all calls if the frame is still open; return whether it was."""
        with self._lock:
            if not self.is_open:  # safety: closing-frame
                return False
            self._calls += calls
            is_full = self._limit is not None and len(self._calls) >= self._limit
        if is_full and self._flush:
            self._flush(self)
        return True

    def new_id(self) -> str:
        """Return a random UUID; many are made at once if there are many calls."""
        try:
            return self._ids.pop()
        except IndexError:
            self._ids = new_ids(min(len(self._calls) + 1, IDS_AT_ONCE))
            return self._ids.pop()

    def watch_later(self, result: BlockAwareResult, *, is_kept: bool) -> None:
        """Let the result backend watch for this result when its call leaves, unless nobody holds it then.

        If the task keeps no result, there is nothing to watch for, and nothing to forget.
        """
        result.is_watched = False
        if is_kept:
            self._results.append(ref(result))

    def last(self) -> Call | None:
        """Return the call that came last, while it waits here."""
        with self._lock:
            return self._calls[-1] if self._calls else None

    def take(self) -> list[Call]:
        """Remove and return the calls that wait."""
        with self._lock:
            calls, self._calls = self._calls, []
            results, self._results = self._results, []
        # safety: held-results-watched
        _watch([result for each in results if (result := each()) is not None])
        return calls

    def holds(self, task_id: str) -> bool:
        """Return whether a call waits here."""
        return any(call.task_id == task_id for call in list(self._calls))

    def close(self) -> list[Call]:
        """Refuse further calls, and return those that wait. Safe to repeat, and in any context."""
        with self._lock:
            self._is_open = False
        if _current.get() is self:
            _current.set(next(open_frames(), None))
        return self.take()


_current: ContextVar[Frame | None] = ContextVar("celery_batches_notify_frame", default=None)


@contextmanager
def collecting(app: Celery, owner: Owner | None = None) -> Iterator[list[Call]]:
    """Collect the app's calls of a `with` block in the list that it yields, filled at the block's end.

    If the block raises, its calls are dropped.
    """
    frame, calls = Frame(app, owner).enter(), list[Call]()
    try:
        yield calls
    except BaseException:
        release_locks(app, frame.close())
        raise
    calls += frame.close()


@contextmanager
def outside_batch() -> Iterator[None]:
    """Send the calls of a `with` block at once, outside any batch."""
    frame = Frame(None).enter()
    try:
        yield
    finally:
        frame.close()


def open_frames() -> Iterator[Frame]:
    """Yield the open frames of this context, the innermost first."""
    frame = _current.get()
    while frame is not None:
        if frame.is_open:  # safety: closed-frame
            yield frame
        frame = frame.outer


def find_frame(app: Celery) -> Frame | None:
    """Return the innermost open frame that collects calls of this app; None if they go out at once."""
    for frame in open_frames():
        if frame.app is None:
            return None
        if frame.app is app:  # safety: other-app-block
            return frame
    return None


def refuse_foreign_call(app: Celery, name: str) -> None:
    """Raise `NotAMember` if the innermost open frame collects calls of other apps only."""
    frame = next(open_frames(), None)
    if frame is not None and frame.app is not None and find_frame(app) is None:
        raise NotAMember(
            f"{name} is a task of {app!r}, but the open `with batch:` block collects calls of {frame.app!r}: "
            "call it outside the block or in `with outside_batch():`; for a shared task, make the batch's "
            "app the current one with app.set_default(), or give Batch(app=...) the app that has the task"
        )


def is_in_block() -> bool:
    """Return whether this context has a frame, open or not."""
    return _current.get() is not None


def leave_blocks() -> Frame | None:
    """Begin a task's run outside all blocks; return the frame for `return_to` when the run ends."""
    frame = _current.get()
    if frame is not None:
        _current.set(None)
    return frame


def return_to(frame: Frame | None) -> None:
    """End a task's run: restore the context, even if the task has left blocks open."""
    if _current.get() is not frame:  # safety: task-leaves-block
        _current.set(frame)


class BlockAwareResult(Result):
    """A result of Celery that knows whether its call still waits in an open block."""

    is_watched = True

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the result, as Celery's own `get`. Raises `WouldDeadlock` inside the call's own block."""
        self._refuse_inside_block()
        self.is_watched = True
        return super().get(*args, **kwargs)

    def then(self, *args: Any, **kwargs: Any) -> Any:
        """Call something when the result is there, as Celery's own `then`."""
        self.is_watched = True
        return super().then(*args, **kwargs)

    def watch(self) -> None:
        """Let the result backend watch for it, as Celery does when it sends a call."""
        if not self.is_watched:
            self.app.backend.on_task_call(None, self.id)
            self.is_watched = True

    def __del__(self) -> None:
        """Let the backend forget it if it watches."""
        if self.is_watched:
            super().__del__()

    wait = get

    @property
    def supports_native_join(self) -> bool:
        """Whether the backend joins groups by itself; a group asks its first result before it waits."""
        self._refuse_inside_block()
        return bool(super().supports_native_join)

    def _refuse_inside_block(self) -> None:
        if any(frame.holds(self.id) for frame in open_frames()):
            raise WouldDeadlock(
                f"task {self.id} is sent when its `with batch:` block ends: ask for its result after that"
            )


def _watch(results: Sequence[BlockAwareResult]) -> None:
    """Let the result backend watch for these results. If it is away, each `get` asks it again."""
    try:
        for result in results:
            result.watch()
    except SoftTimeLimitExceeded:
        raise
    except Exception as exc:  # noqa: BLE001 - the calls leave all the same
        logger.warning("batches: the result backend does not watch for results of a block: %r", exc)


def watch_results(app: Celery) -> None:
    """Make the app create `BlockAwareResult`s."""
    # A result's pickle holds the name of the app's attribute that makes the result again.
    # safety: result-attribute
    result = app.subclass_with_self(BlockAwareResult, name="AsyncResult", reverse="AsyncResult")
    app.AsyncResult = result  # type: ignore[misc]
    app.BlockAwareResult = result  # type: ignore[attr-defined]  # for pickles made before this
