"""The one thread of a process that hears and reads for all followers of one store's batches."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from math import inf
from socket import socket

from redis import Redis

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.store.followed import Followed
from celery_batches_notify.store.followers import Answer, Follower, wake_all
from celery_batches_notify.store.inbox import Inbox

LINGER_SECONDS = 1.0
CLOSE_SECONDS = 5.0

Read = Callable[[Sequence[str]], Mapping[str, Answer]]

logger = logging.getLogger(__name__)


class Listener:
    """Serves followers that are threads, greenlets or coroutines of any event loop, from one daemon thread.

    The thread begins with the first follower and ends soon after the last one left. It alone has the
    subscription and the list of followers. Other threads append orders and ring the bell. Leaving works
    without a lock, because the garbage collector may end a follower at any point of any thread. A fork's
    child has its own listener.

    Args:
        client: The client whose server is subscribed to.
        read: Reads batches in one round trip: for each bid a reading, or the error that its followers get.
        clock: A monotonic clock.
    """

    def __init__(
        self, client: Callable[[], Redis], read: Read, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._orders: deque[Callable[[Followed], object]] = deque()
        self._bell: socket | None = None
        self._thread: threading.Thread | None = None
        self._hurries = False

    @contextmanager
    def serving(self, follower: Follower) -> Iterator[None]:
        """Keep this follower informed within the block."""
        try:
            self.add(follower)
            yield
        finally:
            self.remove(follower)

    def add(self, follower: Follower) -> None:
        """Keep this follower informed from now on."""
        self._orders.append(lambda followed: followed.add(follower, self._clock()))
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # an interrupt may come before it is
                self._hurries = False
                self._thread = threading.Thread(target=self._run, name="batches-listener", daemon=True)
                self._thread.start()
        self._ring()

    def remove(self, follower: Follower) -> None:
        """Stop informing this follower."""
        self._orders.append(lambda followed: followed.remove(follower))
        self._ring()

    def close(self) -> None:
        """End the thread and its connection if it has no followers; the next follower starts another."""
        with self._lock:
            thread, self._hurries = self._thread, True
        if thread is not None:
            self._ring()
            thread.join(CLOSE_SECONDS)

    def _ring(self) -> None:
        if (bell := self._bell) is not None:
            with suppress(OSError):  # it is full, so the thread will wake; or the thread has ended
                bell.send(b"!")

    def _run(self) -> None:
        followed = Followed()
        try:
            with closing(Inbox(self._client, self._clock)) as inbox:
                self._bell = inbox.bell
                self._listen(followed, inbox)
        except Exception as exc:
            logger.exception("batches: following ended")
            self._end(followed, exc)

    def _listen(self, followed: Followed, inbox: Inbox) -> None:
        leave_at = self._clock() + LINGER_SECONDS
        while True:
            self._obey(followed)
            named, refused = inbox.hear()
            followed.stir(named)
            if not inbox.keep(followed.bids, *followed.take_changes()) or refused:
                followed.stir_unread()
            self._read_page(followed)
            if followed:
                leave_at = self._clock() + LINGER_SECONDS
            elif (self._hurries or self._clock() >= leave_at) and self._may_leave():
                return
            until = min(followed.next_at, inbox.next_at) if followed else leave_at
            inbox.wait(until, tokens=not followed.is_paced)

    def _obey(self, followed: Followed) -> None:
        while self._orders:
            self._orders.popleft()(followed)

    def _read_page(self, followed: Followed) -> None:
        page = followed.next_page(self._clock())
        if not page:
            return
        try:
            answers = self._read(page)
        except StoreUnavailable as exc:
            answers = dict.fromkeys(followed.bids, exc)
        wake_all(followed.hand_out(answers, self._clock()))

    def _may_leave(self) -> bool:
        """Return whether the thread may end: nobody came meanwhile, and the next follower starts another."""
        with self._lock:
            if self._orders:  # safety: orders-first
                return False
            self._thread = self._bell = None
            return True

    def _end(self, followed: Followed, exc: Exception) -> None:
        """Give all followers the error of a thread that has failed."""
        with self._lock:
            self._thread = self._bell = None
            self._obey(followed)
        wake_all(followed.hand_out(dict.fromkeys(followed.bids, exc), inf))
