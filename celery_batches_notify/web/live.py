"""Live pages: one task follows and renders each batch, and sends the result to all who watch it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import anyio
from anyio import to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import BatchesError
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.store.follow import AsyncReadings, Follow
from celery_batches_notify.web.answers import Problem

PAUSE_SECONDS = 0.25  # between two drawings of one batch
DRAWINGS_PER_SECOND = 45  # of all batches together; each takes some milliseconds of CPU time
DRAWN_AT_ONCE = 4  # each in a thread, and more threads only take more memory
REREAD_SECONDS = 5.0
PING_SECONDS = 15
STOP_SECONDS = 5.0
STREAM_SECONDS = 300.0  # then the client asks for another stream, if its user may still read
EVENT = "page"
AGAIN = ServerSentEvent(data="-", event="again")

Draw = Callable[[str, frozenset[str]], str]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Topic:
    """One batch as people with the same rights see it: its latest drawing, and its watchers."""

    latest: str = ""
    version: int = 0
    watchers: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def publish(self, html: str) -> None:
        """Send a drawing to all who watch, unless it equals the latest one."""
        if html != self.latest:
            self.latest, self.version = html, self.version + 1
            self.wake()

    def wake(self) -> None:
        """Let all who watch look whether there is something to do."""
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()


@dataclass(slots=True)
class Turns:
    """Spreads the drawings of many batches over time, so that they leave the server time for all else."""

    _free_at: float = -math.inf

    def take(self, now: float) -> float:
        """Return for how many seconds a batch that was drawn now waits until it is drawn again."""
        self._free_at = max(self._free_at, now) + 1 / DRAWINGS_PER_SECOND
        return max(self._free_at - now, PAUSE_SECONDS)


class Hub:
    """Sends the drawings of batches to their watchers. A slow client may miss some, but never the last one.

    Args:
        most: How many clients are served at once.
        draw: Draws the part of a batch's page that moves, for people with these grants.
    """

    def __init__(self, most: int, draw: Draw) -> None:
        self._most = most
        self._draw = draw
        self._topics: dict[tuple[str, frozenset[str]], Topic] = {}
        self._turns = Turns()
        self._threads: anyio.CapacityLimiter | None = None
        self.watchers = 0
        self._is_stopping = False

    def set(self) -> None:
        """End all streams: sse-starlette calls this, as it would an event's `set`, if the server stops."""
        self._is_stopping = self.watchers > 0
        for topic in self._topics.values():
            topic.wake()

    def check_room(self) -> None:
        """Raise `Problem` if the hub is full, so that the client polls instead."""
        if self.watchers >= self._most:  # safety: streams-capped
            raise Problem(503, "too_many_streams", "Too many pages are live; this one asks now and then.")

    async def watch(self, engine: Engine, bid: str, grants: frozenset[str]) -> AsyncIterator[str]:
        """Yield each drawing of a batch, the present one first; after `STREAM_SECONDS`, yield "" and end."""
        key, loop = (bid, grants), asyncio.get_running_loop()
        topic = self._topics.setdefault(key, Topic())
        topic.watchers += 1
        if not self.watchers:
            self._threads = anyio.CapacityLimiter(DRAWN_AT_ONCE)  # of this event loop
        self.watchers += 1
        if topic.task is None:
            topic.task = asyncio.create_task(self._follow(engine, bid, grants, topic))
        seen, ends_at = 0, loop.time() + STREAM_SECONDS
        end = loop.call_at(ends_at + 0.1, topic.wake)  # a timer may be early by the clock's resolution
        try:
            while not self._is_stopping and loop.time() < ends_at:  # safety: streams-end
                moved = topic.moved
                if topic.version > seen:
                    seen = topic.version
                    yield topic.latest
                else:
                    await moved.wait()
            if not self._is_stopping:
                yield ""
        finally:
            end.cancel()
            topic.watchers -= 1
            self.watchers -= 1
            self._is_stopping = self._is_stopping and self.watchers > 0
            if not topic.watchers:  # safety: topic-ends
                self._topics.pop(key, None)
                topic.task.cancel()

    async def _follow(self, engine: Engine, bid: str, grants: frozenset[str], topic: Topic) -> None:
        """Draw a batch whenever it moves, and at least every few seconds, as long as somebody watches."""
        readings: AsyncReadings | None = None
        step: asyncio.Task[object] | None = None
        try:
            while True:
                if readings is None:
                    readings = aiter(Follow(engine.store, bid))
                if step is None:
                    step = asyncio.ensure_future(anext(readings, None))
                await self._publish(bid, grants, topic)
                # safety: drawings-spread
                await asyncio.sleep(self._turns.take(time.monotonic()))
                done, _ = await asyncio.wait({step}, timeout=REREAD_SECONDS)
                if done:
                    ended = isinstance(step.exception(), BatchesError) or step.result() is None
                    step = None
                    if ended:  # it has finished, is gone, or the store is away: it may come back
                        readings = None
                        await self._publish(bid, grants, topic)
                        await asyncio.sleep(REREAD_SECONDS - PAUSE_SECONDS)
        finally:
            if step is not None:
                step.cancel()
                with suppress(asyncio.CancelledError, BatchesError):
                    await step
            if readings is not None:
                await readings.aclose()

    async def _publish(self, bid: str, grants: frozenset[str], topic: Topic) -> None:
        try:
            topic.publish(await to_thread.run_sync(self._draw, bid, grants, limiter=self._threads))
        except Exception:  # noqa: BLE001 - the stream goes on, and the log says why
            BatchLog(logger, bid=bid).exception("the live page cannot be drawn")


@lru_cache(maxsize=64)  # the first of those who watch a batch lets it be encoded for all
def encode_frame(html: str) -> bytes:
    """Return a drawing as a server-sent event."""
    return ServerSentEvent(data=html, event=EVENT).encode()


def answer_stream(hub: Hub, engine: Engine, bid: str, grants: frozenset[str]) -> Response:
    """Answer with a stream of drawings. Raises `Problem` if there are too many."""
    hub.check_room()

    async def events() -> AsyncIterator[bytes]:
        watching = hub.watch(engine, bid, grants)
        try:
            async for html in watching:
                yield encode_frame(html) if html else AGAIN.encode()
        finally:
            await watching.aclose()  # type: ignore[attr-defined]

    return EventSourceResponse(
        events(),
        ping=PING_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(data="-", event="ping"),  # page.js hears no comments
        headers={"X-Accel-Buffering": "no"},
        shutdown_event=cast("anyio.Event", hub),
        shutdown_grace_period=STOP_SECONDS,
    )
