"""Actors that make calls: contexts, threads and asyncio tasks. One acts at a time, in its own context."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any, Protocol

Step = Callable[[], Any]


class Actor(Protocol):
    """Runs steps in its own context, one after the other, while its caller waits."""

    def run(self, step: Step) -> Any:
        """Run a step; return its result, or raise its error."""

    def end(self) -> None:
        """Run nothing more."""


class InContext:
    """A context that is kept and that code runs in, as in ASGI servers and tests."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def run(self, step: Step) -> Any:
        return self._context.run(step)

    def end(self) -> None:
        pass


class InThread:
    """A thread. It starts with an empty context, or with a copy as in `asyncio.to_thread`."""

    def __init__(self, context: Context) -> None:
        self._steps: SimpleQueue[Step | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=context.run, args=(self._live,))
        self._thread.start()

    def run(self, step: Step) -> Any:
        self._steps.put(step)
        return answer(*self._ended.get())

    def end(self) -> None:
        self._steps.put(None)
        self._thread.join()

    def _live(self) -> None:
        while (step := self._steps.get()) is not None:
            self._ended.put(outcome_of(step))


class InTask:
    """An asyncio task, which waits for its next step as for any other event."""

    def __init__(self, context: Context) -> None:
        self._loop = asyncio.new_event_loop()
        self._steps: asyncio.Queue[tuple[Step, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._task = self._loop.create_task(self._live(), context=context)

    def run(self, step: Step) -> Any:
        ended = self._loop.create_future()
        self._steps.put_nowait((step, ended))
        return answer(*self._loop.run_until_complete(ended))

    def end(self) -> None:
        self._steps.put_nowait(None)
        self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _live(self) -> None:
        while (given := await self._steps.get()) is not None:
            step, ended = given
            ended.set_result(outcome_of(step))


def outcome_of(step: Step) -> tuple[Any, BaseException | None]:
    """A step's result or error, for the caller's thread."""
    try:
        return step(), None
    except BaseException as exc:
        return None, exc


def answer(result: Any, error: BaseException | None) -> Any:
    if error is not None:
        raise error
    return result


def can_start_a_loop() -> bool:
    """Return whether a task can take a step here, because a thread cannot run a loop inside another."""
    return asyncio._get_running_loop() is None


ACTORS: dict[str, Callable[[Context], Actor]] = {"context": InContext, "thread": InThread, "task": InTask}
