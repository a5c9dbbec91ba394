"""Members in the store, read in chunks, because neither a command nor a process should hold them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from celery_batches_notify.store import parsing
from celery_batches_notify.store.base import StoreBase, gone
from celery_batches_notify.store.errors import corrupt_errors, store_errors
from celery_batches_notify.store.packing import ID_BYTES
from celery_batches_notify.store.parsing import Member

MEMBERS_CHUNK = 1000
STATES_CHUNK = 64 * 1024


class MemberStore(StoreBase):
    """The store's methods for reading members."""

    def walk_members(self, bid: str, total: int) -> Iterator[list[Member]]:
        """Read the first `total` members of a batch in the order of their index, 1,000 per round trip.

        Raises:
            NoSuchBatch: The batch is gone.
        """
        for first in range(0, total, MEMBERS_CHUNK):
            with store_errors(self.settings), corrupt_errors(bid):
                yield self._read_members(bid, first, min(total - first, MEMBERS_CHUNK))

    def read_members(self, bid: str, first: int, count: int) -> list[Member]:
        """Read `count` members from index `first` on. Raises `NoSuchBatch`."""
        start = first // 4 * 4  # a byte holds the states of four
        with store_errors(self.settings):
            return self._read_members(bid, start, first + count - start)[first - start :]

    def read_states(self, bid: str, total: int) -> bytes:
        """Read the packed states of the first `total` members, four to a byte; missing ones are waiting."""
        size, key = -(-total // 4), self.keys.part(bid, "states")
        with (
            store_errors(self.settings),
            corrupt_errors(bid),
            self.client.pipeline(transaction=False) as pipe,
        ):
            for start in range(0, size, STATES_CHUNK):
                pipe.getrange(key, start, min(start + STATES_CHUNK, size) - 1)
            return b"".join(pipe.execute())

    def read_members_at(self, bid: str, indexes: Sequence[int]) -> list[Member]:
        """Read the members with these indexes, in one round trip per kind of name."""
        part = self.keys.part
        if not indexes:
            return []
        with store_errors(self.settings), corrupt_errors(bid):
            with self.client.pipeline(transaction=False) as pipe:
                for index in indexes:
                    pipe.getrange(part(bid, "members"), index * ID_BYTES, (index + 1) * ID_BYTES - 1)
                    pipe.getrange(part(bid, "states"), index // 4, index // 4)
                answers = pipe.execute()
            names = self._read_places(part(bid, "names"), indexes)
            children = self._read_places(part(bid, "children"), indexes)
            found = []
            for index, ids, states in zip(indexes, answers[::2], answers[1::2], strict=True):
                first = index // 4 * 4  # a byte holds the states of four
                four = bytes(ID_BYTES * (index - first)) + ids
                found += parsing.parse_members(first, four, states, b"", names, children)[index - first :]
        return found

    def _read_members(self, bid: str, first: int, count: int) -> list[Member]:
        part = self.keys.part
        with self.client.pipeline(transaction=False) as pipe:
            pipe.exists(self.keys.batch(bid))
            # Before the states: a stamp may be older than its state, never newer.
            pipe.getrange(part(bid, "attempts"), first * 2, (first + count) * 2 - 1)
            pipe.getrange(part(bid, "members"), first * ID_BYTES, (first + count) * ID_BYTES - 1)
            pipe.getrange(part(bid, "states"), first // 4, (first + count - 1) // 4)
            pipe.hlen(part(bid, "names"))
            pipe.hlen(part(bid, "children"))
            exists, stamps, ids, states, names, children = pipe.execute()
        if not exists:
            raise gone(bid)
        places = range(first, first + count)
        return parsing.parse_members(
            first,
            ids,
            states,
            stamps,
            self._read_places(part(bid, "names"), places) if names else {},
            self._read_places(part(bid, "children"), places) if children else {},
        )

    def _read_places(self, key: str, places: Sequence[int]) -> dict[int, bytes]:
        found: Any = self.client.hmget(key, [str(index) for index in places])
        return {index: value for index, value in zip(places, found, strict=True) if value is not None}
