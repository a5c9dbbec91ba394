"""A worker without threads and timers: Celery's own consumer, and a pool that runs tasks inline."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

from celery import Celery, _state
from celery.concurrency.base import BasePool, apply_target
from celery.exceptions import TaskRevokedError
from celery.worker import consumer as celery_consumer
from celery.worker import state as worker_state

from celery_batches_notify.errors import BatchTimeout, ConfigurationError
from celery_batches_notify.extension import Batches

Consumer: Any = celery_consumer.Consumer
state: Any = _state  # the stubs lack what this module uses of both


class InlineWorker:
    """Runs the messages of one app, one after the other, for at most `seconds`."""

    def __init__(self, extension: Batches, seconds: float) -> None:
        self._app: Celery = extension.app
        self._extension = extension
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._later = _FakeTimer()
        self._pool = _Inline(app=self._app)
        self._connection = self._app.connection_for_read()
        if self._connection.transport.driver_type != "memory":
            raise ConfigurationError(
                f"drain() needs a broker in memory, but this app's is "
                f'{self._connection.transport.driver_type}: set broker_url = "memory://" in tests, or use '
                "celery_batches_notify.testing.sandbox (with pytest: the fixture batches_sandbox)"
            )

    def __enter__(self) -> InlineWorker:
        app = self._app
        app.finalize()
        app.loader.import_default_modules()
        self._channel = self._connection.channel()
        self._consumer = _Consumer(self._execute, app, self._pool, self._later)
        self._consumer.update_strategies()
        self._receive: Callable[[Any], None] = self._consumer.create_task_handler()
        self._extension.engine.cancellation.start(self._extension.receivers.received, self._pool)
        self._join_will_block = state.task_join_will_block()
        state._set_task_join_will_block(True)  # a task that waits for another gets an error, as in a worker
        return self

    def __exit__(self, *_: object) -> None:
        state._set_task_join_will_block(self._join_will_block)
        self._extension.engine.cancellation.stop()
        self._consumer.conninfo.release()
        self._connection.release()

    def run(self) -> None:
        """Run all messages. Raises `BatchTimeout` if some are left after the timeout."""
        engine = self._extension.engine
        while True:
            engine.outgoing.flush(max(self._deadline - time.monotonic(), 0))
            if time.monotonic() > self._deadline:
                raise BatchTimeout(f"not drained within {self._seconds} s: does a task call itself again?")
            engine.cancellation.read()
            if (message := self._take()) is not None:
                self._receive(message)
            elif not self._later.run_first():
                return
            self._consumer.perform_pending_operations()

    def _take(self) -> Any:
        """Return the oldest message of the first queue that is not empty, or None."""
        accept = self._app.conf.accept_content
        for queue in list(self._app.amqp.queues.values()):
            bound = queue(self._channel)
            bound.declare()
            if (message := bound.get(accept=accept)) is not None:
                return message
        return None

    def _execute(self, request: Any) -> None:
        with suppress(TaskRevokedError):  # a signal has reported it
            request.execute_using_pool(self._pool)


class _Consumer(Consumer):  # type: ignore[misc]
    """Celery's consumer without its connection: it decodes messages and reports bad ones."""

    event_dispatcher = None
    qos = SimpleNamespace(increment_eventually=lambda: None, decrement_eventually=lambda: None)

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Without steps, because this consumer is never started."""

        def apply(self, parent: Any, **_: Any) -> Any:  # noqa: ARG002 - Celery's signature
            return self

    def __init__(
        self, execute: Callable[[Any], None], app: Celery, pool: BasePool, timer: _FakeTimer
    ) -> None:
        super().__init__(
            execute,
            app=app,
            hostname="drain@batches",
            pool=pool,
            timer=timer,
            controller=SimpleNamespace(state=worker_state),
            disable_rate_limits=True,
        )


class _Inline(BasePool):
    """Runs a task in the caller's thread. Exceptions that end a test (Ctrl-C, `pytest.fail`) pass through."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app=app, limit=1)
        self.on_apply: Any = partial(apply_target, propagate=(KeyboardInterrupt, *_outcomes_of_pytest()))


class _FakeTimer:
    """Takes the place of a worker's timer: it makes calls in their order, without waiting."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, Callable[..., object], Sequence[Any]]] = []
        self._turn = count()

    def call_at(
        self,
        eta: float,
        call: Callable[..., object],
        args: Sequence[Any] = (),
        kwargs: object = None,  # noqa: ARG002 - Celery's signature
        priority: int = 0,  # noqa: ARG002
    ) -> None:
        heapq.heappush(self._calls, (eta, next(self._turn), call, args))

    def run_first(self) -> bool:
        """Make the earliest call; return False if none is left."""
        if not self._calls:
            return False
        _, _, call, args = heapq.heappop(self._calls)
        call(*args)
        return True


def _outcomes_of_pytest() -> tuple[type[BaseException], ...]:
    pytest = sys.modules.get("pytest")
    names = ("fail", "skip", "xfail", "exit") if pytest is not None else ()
    return tuple(getattr(pytest, name).Exception for name in names)
