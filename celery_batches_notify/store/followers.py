"""Followers of a batch: each has room for the latest reading, and a way to be woken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from contextlib import suppress
from copy import copy
from typing import NoReturn

from celery_batches_notify.store.parsing import Reading

Answer = Reading | Exception


class Follower:
    """One follower of a batch. A slow one finds the latest reading, and delays no other.

    An exception is the last answer.
    """

    _moved: threading.Event | asyncio.Event

    def __init__(self, bid: str) -> None:
        self.bid = bid
        self.latest: Answer | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_over(self) -> bool:
        """Whether its event loop has ended, and the follower with it."""
        return self.loop is not None and self.loop.is_closed()

    def wake(self) -> None:
        """Wake it; call this in its event loop, if it has one."""
        self._moved.set()


class ThreadFollower(Follower):
    """A follower that is a thread or a greenlet.

    Args:
        bid: The batch.
        moved: What wakes it; its own if not given. A thread that follows several batches gives each of their
            followers the same.
    """

    def __init__(self, bid: str, moved: threading.Event | None = None) -> None:
        super().__init__(bid)
        self._moved: threading.Event = moved or threading.Event()

    def wait(self, seconds: float | None = None) -> Answer | None:
        """Wait for a new answer, at most so many seconds; return None if none came."""
        if not self._moved.wait(seconds):
            return None
        self._moved.clear()
        return self.latest


class LoopFollower(Follower):
    """A follower that is a coroutine of the running event loop."""

    def __init__(self, bid: str) -> None:
        super().__init__(bid)
        self.loop = asyncio.get_running_loop()
        self._moved: asyncio.Event = asyncio.Event()

    async def wait(self) -> Answer | None:
        """Wait for a new answer."""
        await self._moved.wait()
        self._moved.clear()
        return self.latest


def wake_all(followers: Iterable[Follower]) -> None:
    """Wake these followers, all of one event loop with one call into it.

    With a call for each, the loop's thread would take over after the first, and the other calls wait for it.
    """
    by_loop: dict[asyncio.AbstractEventLoop | None, list[Follower]] = {}
    for follower in followers:
        by_loop.setdefault(follower.loop, []).append(follower)
    for loop, group in by_loop.items():
        if loop is None:
            _wake_each(group)
        else:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_wake_each, group)


def _wake_each(followers: Iterable[Follower]) -> None:
    for follower in followers:
        follower.wake()


def raise_for_one(exc: Exception) -> NoReturn:
    """Raise an error that many followers get: each raises a copy, because raising adds to its traceback."""
    raise copy(exc) from exc.__cause__
