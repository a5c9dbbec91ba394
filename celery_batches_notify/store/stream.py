"""A batch's channel: what wakes those who follow it."""

from __future__ import annotations

import time
from types import TracebackType

from redis import Redis

TOKENS = frozenset("+-!$")
CONFIRMED_SECONDS = 5.0


class Stream:
    """A subscription to one channel, from its construction on. Tokens only wake: the keys are the truth."""

    def __init__(self, client: Redis, channel: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(channel)
        self._take(CONFIRMED_SECONDS)  # from now on nothing is missed

    def wait(self, seconds: float) -> str:
        """Wait for a token, and return it with all that came along; an empty text after `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if tokens := self._take(left):
                while more := self._take(0):
                    tokens += more
                return tokens
        return ""

    def close(self) -> None:
        """Give the connection back."""
        self._pubsub.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, seconds: float) -> str:
        message = self._pubsub.get_message(timeout=seconds)
        return message["data"].decode("utf-8", "replace") if message else ""
