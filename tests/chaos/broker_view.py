"""What a Redis broker still holds, read beside Celery: a message that is in no list there is gone.

kombu takes a message with BRPOP and notes it as unacknowledged afterwards. A worker that is killed between
the two loses it: at most one message per kill, and nobody can hand it out again. RabbitMQ has no such gap.
"""

from __future__ import annotations

import json

from redis import Redis


class RedisBroker:
    """One queue of a Redis broker, and what was taken from it."""

    def __init__(self, url: str, queue: str) -> None:
        self._client = Redis.from_url(url)
        self._queue = queue

    def held_ids(self) -> set[str]:
        """The ids of all messages that it may still hand out."""
        waiting = [json.loads(text) for text in self._client.lrange(self._queue, 0, -1)]
        taken = [json.loads(text)[0] for text in self._client.hvals("unacked")]
        return {message["headers"]["id"] for message in [*waiting, *taken]}

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()
