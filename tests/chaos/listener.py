"""An independent subscriber: writes every token into the journal as it arrives."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType

from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.journal import Journal

POLL_SECONDS = 0.05


class Listener:
    """Listens until its block ends; where the store went away it listens anew, and counts the gap."""

    def __init__(self, url: str, journal: Journal) -> None:
        self.gaps = 0
        self._client = Redis.from_url(url, decode_responses=True, socket_timeout=2, retry=None)
        self._journal = journal
        self._over = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener")

    def __enter__(self) -> Listener:
        self._thread.start()
        assert self._listens.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with suppress(RedisError, OSError):
            self._client.ping()  # tokens of what was answered before have left by then
        self._over.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    self._listen(pubsub)
            except (RedisError, OSError):
                self.gaps += 1
                self._over.wait(POLL_SECONDS)

    def _listen(self, pubsub: object) -> None:
        pubsub.psubscribe("batch-*")  # type: ignore[attr-defined]
        pubsub.get_message(timeout=2)  # type: ignore[attr-defined]
        self._listens.set()
        while True:
            message = pubsub.get_message(timeout=POLL_SECONDS)  # type: ignore[attr-defined]
            if message is not None:
                bid = message["channel"].removeprefix("batch-")
                self._journal.note("token", bid, "-", message["data"])
            elif self._over.is_set():
                return
