"""The listener's inbox: orders from this process, and tokens from the store."""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from math import inf

from redis import Redis

from celery_batches_notify.store.subscription import BROKEN, Subscription

CONNECT_SECONDS = 1.0
WAIT_SECONDS = 60.0
RINGS = 4096

logger = logging.getLogger(__name__)


class Inbox:
    """A bell that any thread rings with a byte, and a subscription that is renewed when it breaks.

    Without a subscription followers wait for the next reading instead, so its methods raise no errors.
    """

    def __init__(self, client: Callable[[], Redis], clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self.bell, self._rung = socket.socketpair()
        self.bell.setblocking(False)
        # Not a default argument, because gevent may have replaced the class.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._rung, selectors.EVENT_READ)
        self._subscription: Subscription | None = None
        self._connect_at = -inf

    def wait(self, until: float, *, tokens: bool) -> None:
        """Wait for an order until then, and for tokens too if they are wanted."""
        seconds = min(max(until - self._clock(), 0.0), WAIT_SECONDS)
        if tokens:
            ready = [key.fileobj for key, _ in self._selector.select(seconds)]
            if self._rung not in ready:
                return
        self._rung.settimeout(0.0 if tokens else seconds)
        with suppress(BlockingIOError, TimeoutError):
            self._rung.recv(RINGS)

    @property
    def next_at(self) -> float:
        """When `keep` must be called next, even if nothing arrives."""
        return self._connect_at if self._subscription is None else self._subscription.check_at

    def hear(self) -> tuple[set[str], bool]:
        """Take the tokens that have arrived; return their batches, and whether a command was refused."""
        if self._subscription is not None:
            try:
                return self._subscription.hear(self._clock())
            except BROKEN as exc:
                self._cut(exc)
        return set(), False

    def keep(self, batches: Collection[str], new: Collection[str], left: Collection[str]) -> bool:
        """Keep a subscription to these batches; return whether it stands.

        Args:
            batches: All followed batches.
            new: Those that were not followed at the last call.
            left: Those that are not followed any more, or were not for a while.
        """
        now = self._clock()
        try:
            if self._subscription is not None:
                if left:
                    self._subscription.unsubscribe(left)
                if new:
                    self._subscription.subscribe(new)
                self._subscription.check(now)
            elif batches and now >= self._connect_at:
                self._connect_at = now + CONNECT_SECONDS
                self._subscription = Subscription(self._client(), now)
                self._selector.register(self._subscription.socket, selectors.EVENT_READ)
                self._subscription.subscribe(batches)  # safety: resubscribed
        except BROKEN as exc:
            self._cut(exc)
        return self._subscription is not None

    def close(self) -> None:
        """Close all connections."""
        self._disconnect()
        self._selector.close()
        self._rung.close()
        self.bell.close()

    def _cut(self, exc: Exception) -> None:
        if self._subscription is not None:
            logger.info("batches: followers hear no tokens until the next subscription: %s", exc)
        self._disconnect()

    def _disconnect(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(KeyError):
                self._selector.unregister(subscription.socket)
            subscription.close()
